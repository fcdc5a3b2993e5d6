"""A small web service: whoever has a tenant's token announces files by ``POST /announce``, and asks how they fare.

Amazon SNS announces objects by ``POST /sns``: its messages are taken from known topics, and answered when their jobs
are queued.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any

from aiohttp import BasicAuth, web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingestlab.core.access import check, scheme_of
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import NAME
from ingestlab.core.schemes import traits
from ingestlab.core.settings import Settings
from ingestlab.core.templates import render
from ingestlab.core.validation import first_fault
from ingestlab.core.version import VERSION
from ingestlab.lake.audit import acting
from ingestlab.lake.tenants import entries, of_token, settings_for
from ingestlab.queue.arrival.inbox import Inbox, Listener, Verdict
from ingestlab.queue.arrival.listening import Target
from ingestlab.queue.arrival.s3_events import UnknownShapeError, notices
from ingestlab.queue.arrival.sns import SnsInspector, SnsMessage
from ingestlab.queue.producer import announce, check_names
from ingestlab.queue.run import Run, find_run
from ingestlab.sources.expand import expand

log = logging.getLogger("ingestlab.queue.arrival")

MOST_BYTES = 64 << 10  # of a body
MOST_FILES = 1000  # of one announcement
MOST_SNS_BYTES = 1 << 20  # of a message of SNS: 256 kB of text, escaped
ANSWER = 12.0  # seconds for which SNS waits for an answer, less some
_LEAVE = 30.0  # seconds for which listeners may handle what they have taken, at the end
_FORBIDDEN = ("access_denied", "address_not_allowed", "scheme_not_allowed", "tenant_unknown")
_SEE = "The page / says what can be asked here."
_FIXES = {
    401: "Send a tenant's token: `Authorization: Bearer TOKEN`; to /sns as user and password.",
    413: "Announce fewer files at once.",
}
_STATUS = {"run_unknown": 404, **dict.fromkeys(_FORBIDDEN, 403)}
_TENANT = web.RequestKey("tenant", str)
Uri = Annotated[str, Field(min_length=1, max_length=4096)]


class Announcement(BaseModel):
    """The body of ``POST /announce``."""

    model_config = ConfigDict(extra="forbid")

    uri: Uri | Annotated[list[Uri], Field(min_length=1, max_length=MOST_FILES)] = Field(
        description="The URI of a file, or a list of them."
    )
    pipeline: str | None = Field(None, pattern=NAME, description="Its name; by default found by each file's name.")
    tenant: str | None = Field(None, pattern=NAME, description="Must be the token's, if given.")
    table: str | None = Field(None, pattern=NAME, description="Table for files that no pipeline matches.")


class Announced(BaseModel):
    """The answer: a run that is queued."""

    run: str = Field(description="Its id.")
    url: str = Field(description="Where its state is told.")
    files: int


def application(settings: Settings) -> web.Application:
    """Make the service; serve it with aiohttp behind TLS of your own.

    Args:
        settings: Have tokens by tenant, beside those of tenants' entries, and say which files may be announced.

    Raises:
        TerminalError: There is no token, so that nobody could announce anything.
    """
    if not (settings.announce_tokens or any(tenant.tokens for tenant in entries(settings).values())):
        fix = "Make one with `ingestlab tenant token`, or set INGESTLAB_ANNOUNCE_TOKENS."
        raise TerminalError("The webhook has no tokens", fix=fix, code="setting_missing")
    service = _Service(settings)
    app = web.Application(client_max_size=MOST_SNS_BYTES, middlewares=[_errors, service.known])
    app.cleanup_ctx.append(service.listening)
    app.add_routes(
        [
            web.post("/announce", service.announce),
            web.post("/sns", service.sns),
            web.get("/runs/{run}", service.state),
            web.get("/openapi.json", service.described),
            web.get("/", service.page),
        ]
    )
    return app


class _Service:
    """The handlers of the service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sns = SnsInspector(settings)
        self._listeners: dict[Target, Listener] = {}

    async def listening(self, _app: web.Application) -> AsyncIterator[None]:
        """End the listeners with the service."""
        yield
        await asyncio.gather(*(asyncio.to_thread(each.stop, _LEAVE) for each in self._listeners.values()))

    @web.middleware
    async def known(self, request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]) -> Any:
        """Find the tenant of the token; what describes the service is open."""
        if request.path not in ("/", "/openapi.json"):
            header = request.headers.get("Authorization", "")
            tenant = request[_TENANT] = await asyncio.to_thread(self._tenant, header, request.path)
            with acting(f"token of {tenant}", request.remote or "?"):
                return await handler(request)
        return await handler(request)

    async def announce(self, request: web.Request) -> web.Response:
        """Queue a run."""
        body = await self._body(request)
        if body.tenant not in (None, request[_TENANT]):
            raise TerminalError("The token is another tenant's", fix="Leave `tenant` out.", code="tenant_unknown")
        uris = [body.uri] if isinstance(body.uri, str) else body.uri
        settings = await asyncio.to_thread(settings_for, request[_TENANT], self._settings)
        for uri in uris:
            check(uri, settings)
            if traits(scheme_of(uri)).local and not settings.file_roots:
                fix = "Whoever runs the service may name folders in INGESTLAB_FILE_ROOTS."
                raise TerminalError("Local files cannot be announced here", fix=fix, code="address_not_allowed")
        run = await asyncio.to_thread(_queue, uris, body, request[_TENANT], settings)
        url = str(request.url.origin().with_path(f"/runs/{run.id}"))
        answer = Announced(run=run.id, url=url, files=run.record.files)
        return web.json_response(answer.model_dump(), status=202, headers={"Location": url})

    async def sns(self, request: web.Request) -> web.Response:
        """Take a message of Amazon SNS; it is answered with 200 when its jobs are queued."""
        try:
            message = await self._sns.read(await request.read())
            listener = await self._listener(request)
            if message.kind == "SubscriptionConfirmation":
                await self._sns.confirm(message)
            elif message.kind == "UnsubscribeConfirmation":
                log.warning("The subscription to %s has ended: its objects are announced no longer", message.topic)
            elif verdict := await _handled(message, listener.inbox):
                problem = {"code": "source_unavailable" if verdict.status == 503 else "argument_invalid"}
                return web.json_response({**problem, "problem": verdict.reason}, status=verdict.status)
        except IngestError as error:
            log.warning("A message of SNS is refused: %s", error)
            raise
        return web.json_response({"taken": message.kind})

    async def _listener(self, request: web.Request) -> Listener:
        """Return who handles what is announced for a pipeline or table."""
        target = Target(request.query.get("pipeline"), request[_TENANT], request.query.get("table"))
        if target not in self._listeners:
            names = target.pipeline, self._settings.queue, request[_TENANT], target.table
            await asyncio.to_thread(check_names, self._settings, *names)
            name = ":".join(filter(None, ("sns", target.tenant, target.pipeline, target.table)))
            settings = await asyncio.to_thread(settings_for, request[_TENANT], self._settings)
            if target not in self._listeners:  # nobody else was quicker
                self._listeners[target] = Listener(Inbox(name), settings, target)
        return self._listeners[target]

    async def state(self, request: web.Request) -> web.Response:
        """Tell where a run of the tenant is. Others' are as if there were none."""
        name = request.match_info["run"]
        run = await asyncio.to_thread(find_run, name, self._settings)
        if run.record.tenant != request[_TENANT]:
            raise TerminalError(f"There is no run '{name}'", fix="Check its id.", code="run_unknown")
        progress = await asyncio.to_thread(run.progress)
        return web.json_response({"run": run.id, **progress.to_dict()})

    async def described(self, request: web.Request) -> web.Response:
        """Describe the service as OpenAPI does."""
        return web.json_response(openapi(str(request.url.origin())))

    async def page(self, request: web.Request) -> web.Response:
        """Describe the service for people."""
        server = str(request.url.origin())
        text = render("queue/templates/webhook.html", api=openapi(server), example=_example(server))
        return web.Response(text=text, content_type="text/html")

    def _tenant(self, header: str, path: str) -> str:
        """Find whose token it is. SNS knows no bearer tokens: it sends the name of the tenant and the token."""
        kind, _, token = header.partition(" ")
        name, basic = None, path == "/sns" and kind.lower() == "basic"
        if basic:
            with suppress(ValueError):
                name, token, _ = BasicAuth.decode(header, "utf-8")
        given, tokens = token.strip().encode(), self._settings.announce_tokens
        fits = (t for t, own in tokens.items() if hmac.compare_digest(own.get_secret_value().encode(), given))
        tenant = next(fits, None)
        if tenant is None and (entry := of_token(token, self._settings)):
            tenant = entry.name
        if tenant is None or (name != tenant if basic else kind.lower() != "bearer"):
            challenge = 'Basic realm="ingestlab"' if path == "/sns" else "Bearer"
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": challenge})
        return tenant

    async def _body(self, request: web.Request) -> Announcement:
        data = await request.read()
        if len(data) > MOST_BYTES:
            raise web.HTTPRequestEntityTooLarge(MOST_BYTES, len(data))
        try:
            return Announcement.model_validate_json(data)
        except ValidationError as error:
            field, _, problem = first_fault(error)
            raise TerminalError(
                "The body is no announcement",
                expected='JSON such as {"uri": "s3://bucket/a.csv", "pipeline": "alarms"}',
                got=f"{field or 'body'}: {problem}",
                fix="See / for all fields.",
                code="argument_invalid",
            ) from None


def _queue(uris: Sequence[str], body: Announcement, tenant: str, settings: Settings) -> Run:
    """Queue files that may be announced."""
    check_names(settings, body.pipeline, settings.queue, tenant, body.table)
    sources = expand(uris, settings)
    return announce(sources, settings=settings, pipeline=body.pipeline, table=body.table, tenant=tenant, via="webhook")


async def _handled(message: SnsMessage, inbox: Inbox) -> Verdict | None:
    """Handle what a message tells of; None if all is well."""
    problem = ""
    try:
        found = notices(message.text)
    except UnknownShapeError as error:
        found, problem = (), f"The message tells of no object: {error}"
    if not found and not problem:
        return None  # such as a test event
    answer = inbox.put(found, message.text, problem)
    try:
        verdict = await asyncio.wait_for(asyncio.wrap_future(answer), ANSWER)
    except TimeoutError:
        return Verdict(503, "The message is not handled yet")
    return None if verdict.status == 200 else verdict


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]) -> Any:
    """Answer errors as JSON, with their code."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        said = {"code": f"http_{error.status}", "problem": error.reason, "fix": _FIXES.get(error.status, _SEE)}
        return web.json_response(said, status=error.status, headers=_kept(error))
    except IngestError as error:
        transient = isinstance(error, TransientError)
        status = 503 if transient else _STATUS.get(error.code, 400)
        headers = {"Retry-After": "5"} if transient else {}
        return web.json_response(error.to_dict(), status=status, headers=headers)
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return web.json_response({"code": "unforeseen", "problem": "See the log of the service."}, status=500)


def _kept(error: web.HTTPException) -> dict[str, str]:
    return {name: error.headers[name] for name in ("WWW-Authenticate", "Allow") if name in error.headers}


def openapi(server: str) -> dict[str, Any]:
    """Describe the service in OpenAPI 3.1.

    Args:
        server: Its address.
    """
    error = {"description": "An error with `code`, `problem` and `fix`."}
    token: list[dict[str, list[str]]] = [{"token": []}]
    query = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("pipeline", "table")]
    answer = {"content": {"application/json": {"schema": Announced.model_json_schema()}}}
    body = {"required": True, "content": {"application/json": {"schema": Announcement.model_json_schema()}}}
    run = {"name": "run", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ingestlab", "version": VERSION, "description": "Announce files, and ask how they fare."},
        "servers": [{"url": server}],
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "tenant": {"type": "http", "scheme": "basic", "description": "The tenant and its token."},
            }
        },
        "paths": {
            "/announce": {
                "post": {
                    "summary": "Announce files",
                    "security": token,
                    "requestBody": body,
                    "responses": {"202": {"description": "The run is queued.", **answer}, "4XX": error, "503": error},
                }
            },
            "/sns": {
                "post": {
                    "summary": "Take messages of Amazon SNS; its endpoint is https://TENANT:TOKEN@this.server/sns",
                    "security": [{"tenant": []}],
                    "parameters": query,
                    "responses": {"200": {"description": "The jobs are queued."}, "4XX": error, "503": error},
                }
            },
            "/runs/{run}": {
                "get": {
                    "summary": "Tell where a run is",
                    "security": token,
                    "parameters": [run],
                    "responses": {"200": {"description": "State and counts."}, "404": error},
                }
            },
        },
    }


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until told to stop.

    Args:
        settings: As of :func:`application`.
        host: To listen at.
        port: Likewise.
    """
    web.run_app(application(settings), host=host, port=port, print=None, access_log=log)


def _example(server: str) -> str:
    """Write a call that announces a file."""
    body = json.dumps({"uri": "s3://bucket/a.csv"})
    return f"curl -X POST {server}/announce -H 'Authorization: Bearer TOKEN' -d '{body}'"
