"""Go through the pages of an API, in order, with some questions under way where the API allows it.

    one endpoint     a question for each page; those that need no answer before them are asked together
    a parent         its records one after the other, each with a walk of its own, some of them together

A state says where a walk goes on. It is plain data without secrets, and is kept with each page.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from ingestlab.core import access
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.interfaces import Page, Pull
from ingestlab.sources.http.api import Answer, Api, Call, Signed, without
from ingestlab.sources.http.response import is_page
from ingestlab.sources.rest.auth import Session
from ingestlab.sources.rest.declared import PLACEHOLDER, Declared
from ingestlab.sources.rest.incremental import Since
from ingestlab.sources.rest.paginators import Draft, Paginator, Seen, SinglePage, State, looks_paged, total_of
from ingestlab.sources.rest.selecting import fields_of, find, items_of, kind_of, parse, value_at

_QUEUED = 2  # pages of a record's walk that wait for their turn
Values = Mapping[str, Any]  # what the placeholders of a parent's record stand for


async def pages(source: Declared, pull: Pull) -> AsyncIterator[Page]:
    """Yield the pages of a pull; see :meth:`ingestlab.interfaces.RecordSource.pages`.

    Args:
        source: As it is declared.
        pull: What is asked.
    """
    state: State = dict(pull.resume) if pull.resume else {}
    since = Since(source.cursor, pull, state.get("since")) if source.cursor else None
    resume: State | None = state
    async with AsyncExitStack() as stack:
        walk = await _Walk.opened(source, pull, stack, since)
        async with aclosing(walk.batches({}, state.get("at"))) as batches:
            async for batch in batches:
                records, resume = batch.records, None
                if since is not None:
                    records = since.new(records, batch.request)
                if batch.next is not None:
                    resume = {"at": batch.next, **({"since": since.state()} if since else {})}
                cursor = since.cursor() if since and resume is None else None
                yield Page(_lines(records), len(records), batch.request, resume, cursor)
    if resume is not None and since is not None and since.cursor():  # the last answers had nothing
        yield Page(b"", 0, "", None, since.cursor())


def _lines(records: Sequence[bytes]) -> bytes:
    return b"\n".join([*records, b""])


@dataclass(frozen=True, slots=True)
class _Batch:
    """The records of one answer, and what comes next."""

    records: list[bytes]
    request: str
    next: State | None


class _Walk:
    """Ask one endpoint: for itself, or for each record of another."""

    def __init__(self, source: Declared, pull: Pull, api: Api, above: _Walk | None, since: Since | None) -> None:
        self._source, self._pull, self._api, self._above, self._since = source, pull, api, above, since
        self._paginator: Paginator = source.paginator or SinglePage()
        self._data = parse(source.data_selector, "data_selector")
        self._hidden = source.auth.secrets() if source.auth else []
        self._asked = False  # whether an answer has been understood

    @classmethod
    async def opened(cls, source: Declared, pull: Pull, stack: AsyncExitStack, since: Since | None = None) -> _Walk:
        """Open the connections of a source, and of its parents."""
        above = await cls.opened(source.parent, pull, stack) if source.parent else None
        session: Session | None = source.auth.session() if source.auth else None
        api: Api

        async def sign(again: bool) -> Signed:  # noqa: FBT001
            return await session.sign(api, again=again) if session else Signed()

        api = Api(
            pull.settings,
            rate=source.rate,
            sign=sign,
            renews=bool(source.auth and source.auth.renews),
            hidden=session.secrets if session else tuple,
            tell=pull.tell,
        )
        await stack.enter_async_context(api)
        return cls(source, pull, api, above, since)

    def batches(self, values: Values, state: State | None) -> AsyncGenerator[_Batch, None]:
        """Yield what the pages have, from a state on."""
        return self._below_parent(state) if self._above else self._own(values, state)

    async def _own(self, values: Values, state: State | None) -> AsyncGenerator[_Batch, None]:
        """Yield the pages of one question."""
        walk = state or {"page": self._paginator.start(), "came": 0}
        came, low, high = walk["came"], walk.get("low"), walk.get("high")
        next_state: State | None = walk["page"]
        sure = state is not None  # else the first answer decides
        tasks: deque[tuple[State, asyncio.Task[Answer | None]]] = deque()
        states: set[str] = set()
        before = ""
        try:
            ahead: State | None = next_state
            depth = 1
            while next_state is not None:
                while ahead is not None and len(tasks) < depth:
                    tasks.append((ahead, asyncio.create_task(self._ask(ahead, values))))
                    ahead = self._paginator.ahead(ahead)
                here, task = tasks.popleft()
                answer = await task
                if answer is None:  # beyond the last page
                    self._check_total(came, low, high, "the last page")
                    yield _Batch([], "", None)
                    return
                records = self._records(answer)
                name = hashlib.sha256(answer.body).hexdigest()
                came += len(records)
                seen = Seen(answer, len(records), came)
                next_state = self._paginator.follow(here, seen)
                if next_state is not None and records and name == before:
                    raise _twice(answer.request, "the same answer")
                before = name
                if self._paginator.total:
                    total = total_of(self._paginator.total, seen)
                    low, high = min(total, low or total), max(total, high or total)
                if next_state is None:
                    self._check_total(came, low, high, answer.request)
                else:
                    next_state = self._bared(next_state)
                    key = json.dumps(next_state, sort_keys=True)
                    if key in states:
                        raise _twice(answer.request, "a next page that came before")
                    states.add(key)
                if not tasks:
                    ahead = next_state
                depth = self._depth(
                    depth, sure=sure, more=next_state is not None, known=high, came=came, rows=len(records)
                )
                sure = True
                after = None if next_state is None else {"page": next_state, "came": came, "low": low, "high": high}
                yield _Batch(self._with_parent(records, values), answer.request, after)
        finally:
            await _ended([task for _, task in tasks])

    def _depth(self, depth: int, *, sure: bool, more: bool, known: int | None, came: int, rows: int) -> int:
        """Decide how many questions may be under way."""
        most = min(self._source.ahead, self._pull.settings.connections)
        if known is not None and rows:
            return max(1, min(most, -(-(known - came) // rows)))
        return min(most, depth + 1) if more and sure else depth

    async def _below_parent(self, state: State | None) -> AsyncGenerator[_Batch, None]:
        """Yield the pages of each record of the parent."""
        assert self._above is not None
        parent: State | None = state["parent"] if state else None
        waiting: list[dict[str, Any]] = state["waiting"] if state else []
        at: State | None = state["at"] if state else None
        if waiting:
            async for batch in self._of_each(waiting, at, parent):
                yield batch
        if state is not None and parent is None:
            return
        async with aclosing(self._above.batches({}, parent)) as above:
            async for batch in above:
                async for mine in self._of_each([self._values(raw) for raw in batch.records], None, batch.next):
                    yield mine

    async def _of_each(
        self, parents: Sequence[dict[str, Any]], at: State | None, parent: State | None
    ) -> AsyncGenerator[_Batch, None]:
        """Walk for some records, a few at once; the pages come in order."""
        most = max(1, min(self._source.ahead, self._pull.settings.connections))
        running: deque[tuple[asyncio.Queue[Any], asyncio.Task[None]]] = deque()
        rest = iter(parents)
        try:
            for number in range(len(parents)):
                while len(running) < most and (values := next(rest, None)) is not None:
                    first = at if values is parents[0] else None
                    queue: asyncio.Queue[Any] = asyncio.Queue(_QUEUED)
                    running.append((queue, asyncio.create_task(self._feed(queue, values, first))))
                queue, task = running[0]
                while (batch := await queue.get()) is not None:
                    if isinstance(batch, BaseException):
                        raise batch
                    left = [dict(p) for p in parents[number + (batch.next is None) :]]
                    more = {"parent": parent, "waiting": left, "at": batch.next} if left or parent else None
                    yield _Batch(batch.records, batch.request, more)
                await task
                running.popleft()
        finally:
            await _ended([task for _, task in running])

    async def _feed(self, queue: asyncio.Queue[Any], values: Values, state: State | None) -> None:
        try:
            async with aclosing(self._own(values, state)) as batches:
                async for batch in batches:
                    await queue.put(batch)
        except Exception as error:  # noqa: BLE001 - it is raised where the pages are taken
            await queue.put(error)
        else:
            await queue.put(None)

    def _values(self, raw: bytes) -> dict[str, Any]:
        """Read from a parent's record what its placeholders and fields are."""
        source = self._source
        names = {*PLACEHOLDER.findall(f"{source.endpoint} {source.params} {source.json}"), *source.include.values()}
        values = {name: value_at(raw, parse(name, "parent")) for name in sorted(names)}
        if lacking := next(
            (name for name, value in values.items() if value is None and name not in source.include.values()), None
        ):
            problem = f"A record of {source.parent.url if source.parent else ''} has no {lacking}"
            fix = "Name a field that all records of the parent have."
            raise TerminalError(
                problem, expected=f"a value for {{parent.{lacking}}}", got="null", fix=fix, code="values_invalid"
            )
        return values

    def _with_parent(self, records: list[bytes], values: Values) -> list[bytes]:
        """Add fields of the parent to records."""
        if not self._source.include or not records:
            return records
        added = {name: values[path] for name, path in self._source.include.items()}
        head = json.dumps(added, ensure_ascii=False)[:-1].encode()
        return [head + (b"}" if record[1:].lstrip() == b"}" else b"," + record[1:]) for record in records]

    async def _ask(self, state: State, values: Values) -> Answer | None:
        """Ask for one page. None for one beyond the last."""
        call = self._call(state, values)
        try:
            return await self._api.ask(call, check=self._check_json if self._asked else None)
        except TerminalError as error:
            end = getattr(self._paginator, "end_status", 0)
            if end and state != self._paginator.start() and f"status {end} " in f"{error.problem} ":
                return None
            raise

    def _call(self, state: State, values: Values) -> Call:
        source = self._source
        params = {**_filled(dict(source.params), values), **(self._since.params if self._since else {})}
        body = _filled(dict(source.json), values) if source.json is not None else None
        draft = Draft(_filled_path(source.url, values), params, dict(source.headers), body)
        self._paginator.write(state, draft)
        headers = dict(draft.headers)
        if draft.json is not None:
            headers["Content-Type"] = "application/json"
        data = json.dumps(draft.json, ensure_ascii=False).encode() if draft.json is not None else b""
        if draft.whole and urlsplit(draft.url)[:2] != urlsplit(source.base_url)[:2]:
            problem = f"The next page of {source.url} is elsewhere: {access.shown(draft.url)}"
            fix = "Credentials are not sent to another host: declare that base_url."
            raise TerminalError(
                problem, expected=f"an address of {source.base_url}", fix=fix, code="address_not_allowed"
            )
        return Call(source.method, draft.url, tuple(_pairs(draft.params)), headers, data)

    def _bared(self, state: State) -> State:
        """Take secrets out of the address of a next page."""
        if "url" in state and self._source.auth:
            return {**state, "url": without(state["url"], self._source.auth.params(), self._hidden)}
        return state

    def _check_json(self, answer: Answer) -> None:
        """Let an answer that is no JSON come again."""
        try:
            msgspec.json.decode(answer.body or b"[]", type=msgspec.Raw)
        except msgspec.DecodeError:
            error = _no_json(answer)
            raise TransientError(
                error.problem, expected=error.expected, got=error.got, fix=error.fix, code="source_unavailable"
            ) from None

    def _records(self, answer: Answer) -> list[bytes]:
        """Cut the records out of an answer."""
        body = answer.body
        if not body.strip():
            return []
        try:
            if b"\n" in body or b"\r" in body:
                body = msgspec.json.format(body, indent=-1)
            if kind_of(body) not in "{[":
                msgspec.json.decode(body, type=msgspec.Raw)  # raises for what is no JSON
            raws = self._selected(body, answer)
            records = [bytes(raw) for raw in raws]
        except msgspec.DecodeError:
            raise _no_json(answer) from None
        wrong = next((record for record in records if record[:1] != b"{"), None)
        if wrong is not None:
            fix = "Correct data_selector: it leads to a list of objects."
            raise _shape(answer, "records that are objects", wrong[:60].decode("utf-8", "replace"), fix)
        if not self._asked and self._source.paginator is None:
            self._check_single(body, answer, len(records))
        self._asked = True
        return records

    def _selected(self, body: bytes, answer: Answer) -> list[msgspec.Raw]:
        if self._source.data_selector:
            there = list(find(body, self._data))
            if not there and not (self._data and self._data[-1] is None):
                got = f"{', '.join(fields_of(body)) or 'nothing'}" if kind_of(body) == "{" else _kind(kind_of(body))
                fix = "Correct data_selector, or see what the API answers."
                raise _shape(answer, f"records at {self._source.data_selector}", got, fix)
            if len(there) == 1 and kind_of(there[0]) == "[":
                return items_of(there[0])
            return [raw for raw in there if bytes(raw) != b"null"]
        if kind_of(body) == "[":
            return items_of(body)
        if kind_of(body) != "{":
            raise _shape(answer, "a list of records", _kind(kind_of(body)), "Check base_url and endpoint.")
        lists = {name: raw for name, raw in fields_of(body).items() if kind_of(raw) == "["}
        if len(lists) != 1:
            got = f"lists at {', '.join(lists)}" if lists else f"the fields {', '.join(fields_of(body))[:200]}"
            fix = 'Declare data_selector; data_selector="$" takes the answer itself as the record.'
            raise _shape(answer, "a list of records, or an object with one list", got, fix)
        return items_of(next(iter(lists.values())))

    def _check_single(self, body: bytes, answer: Answer, rows: int) -> None:
        """Refuse an answer that looks like one page of several."""
        fields: dict[str, Any] = {}
        for depth in range(max(1, len(self._data))):  # the answer, and what is around the records
            for outer in [raw for raw in find(body, self._data[:depth]) if kind_of(raw) == "{"][:1]:
                values = {name: raw for name, raw in fields_of(outer).items() if kind_of(raw) != "["}
                fields = {name: msgspec.json.decode(raw) for name, raw in values.items()} | fields
        if sign := looks_paged(answer, fields, rows):
            problem = f"The answer to {answer.request} looks like one page of several"
            fix = "Declare the paginator; SinglePage() says that one answer is all."
            raise TerminalError(problem, expected="a paginator in Rest(...)", got=sign, fix=fix, code="wrong_format")

    def _check_total(self, came: int, low: int | None, high: int | None, request: str) -> None:
        """Hold what came against what the API has announced."""
        if low is not None and high is not None and not low <= came <= high:
            announced = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            fix = (
                "Records moved while they were read: ask for them in an order that does not change, then submit again."
            )
            problem = f"The API gives other records than it announces, up to {request}"
            raise TerminalError(
                problem, expected=f"{announced} records", got=f"{came:,}", fix=fix, code="pages_conflict"
            )


def _filled(value: Any, values: Values) -> Any:
    """Put values in the place of placeholders."""
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value)
        return values[whole[1]] if whole else PLACEHOLDER.sub(lambda m: str(values[m[1]]), value)
    if isinstance(value, Mapping):
        return {name: _filled(part, values) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(part, values) for part in value]
    return value


def _pairs(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Write parameters as text. A list is one that comes several times."""
    for name, value in params.items():
        for part in value if isinstance(value, list) else [value]:
            if part is not None:
                yield name, str(part).lower() if isinstance(part, bool) else str(part)


def _filled_path(url: str, values: Values) -> str:
    return PLACEHOLDER.sub(lambda match: quote(str(values[match[1]]), safe=""), url)


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """End tasks, and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _kind(first: str) -> str:
    kinds: Iterator[tuple[str, str]] = iter([("[", "a list"), ("{", "an object"), ('"', "a text"), ("", "nothing")])
    return next((word for sign, word in kinds if sign == first), "a single value")


def _twice(request: str, what: str) -> TerminalError:
    problem = f"The pages do not go on after {request}"
    fix = "Check what the paginator sends: the API may not know its parameter."
    return TerminalError(problem, expected="another page", got=what, fix=fix, code="pages_conflict")


def _shape(answer: Answer, expected: str, got: str, fix: str) -> TerminalError:
    problem = f"The answer to {answer.request} has another shape"
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="wrong_format")


def _no_json(answer: Answer) -> TerminalError:
    html = "html" in answer.headers.get("Content-Type", "")
    problem = f"The answer to {answer.request} is no JSON"
    if is_page(answer.body[:2048], html=html):
        fix = "Open the address in a browser; check base_url, endpoint and auth."
        return TerminalError(problem, got="a web page: a login page?", fix=fix, code="wrong_format")
    got = " ".join(answer.body[:100].decode("utf-8", "replace").split())
    return TerminalError(problem, got=got, fix="Check base_url and endpoint.", code="wrong_format")
