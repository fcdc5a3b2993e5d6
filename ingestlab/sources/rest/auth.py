"""Who asks an API: credentials by the names of environment variables, which nothing here keeps or shows."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import urlencode

import msgspec

from ingestlab.core.errors import TerminalError
from ingestlab.sources.http.api import Api, Call, Signed

_EARLY = 30.0  # seconds before its end that a token is renewed


class Auth(Protocol):
    """Credentials of an API, declared by name."""

    renews: bool

    def params(self) -> Sequence[str]:
        """Name the parameters of an address that are secret."""
        ...

    def secrets(self) -> list[str]:
        """Read the secrets; raises TerminalError where one is not set."""
        ...

    def session(self) -> Session:
        """Begin to sign."""
        ...


class Session(Protocol):
    """Sign the questions of one pull."""

    async def sign(self, api: Api, *, again: bool) -> Signed:
        """Give what a question is signed with; `again` after a refusal."""
        ...

    def secrets(self) -> list[str]:
        """Give what must not be repeated."""
        ...


@dataclass(frozen=True)
class _Fixed:
    """Sign each question alike."""

    signed: Signed
    hidden: list[str] = field(repr=False)

    async def sign(self, api: Api, *, again: bool) -> Signed:  # noqa: ARG002 - nothing else is known
        return self.signed

    def secrets(self) -> list[str]:
        return self.hidden


def read(name: str) -> str:
    """Read a secret from the environment.

    Args:
        name: Of the variable.

    Raises:
        TerminalError: It is not set.
    """
    if value := os.environ.get(name, "").strip():
        return value
    problem = f"The environment variable {name} is not set"
    fix = "Set it for the workers: of the embedded stack, before `ingestlab up`."
    raise TerminalError(problem, expected="a secret of the API", fix=fix, code="credentials_invalid")


@dataclass(frozen=True, kw_only=True)
class Bearer:
    """A token in the header `Authorization`.

    Attributes:
        env: The environment variable with the token.
        scheme: The word before it.
    """

    renews = False
    env: str
    scheme: str = "Bearer"

    def params(self) -> Sequence[str]:
        """See Auth."""
        return ()

    def secrets(self) -> list[str]:
        """See Auth."""
        return [read(self.env)]

    def session(self) -> Session:
        """See Auth."""
        return _Fixed(Signed({"Authorization": f"{self.scheme} {read(self.env)}".strip()}), self.secrets())


@dataclass(frozen=True, kw_only=True)
class Basic:
    """User and password in the header `Authorization`.

    Attributes:
        user_env: The environment variable with the user.
        password_env: That with the password; without one it is empty.
    """

    renews = False
    user_env: str
    password_env: str = ""

    def params(self) -> Sequence[str]:
        """See Auth."""
        return ()

    def secrets(self) -> list[str]:
        """See Auth."""
        return [read(name) for name in (self.password_env or self.user_env,)]

    def session(self) -> Session:
        """See Auth."""
        pair = _pair(read(self.user_env), read(self.password_env) if self.password_env else "")
        return _Fixed(Signed({"Authorization": f"Basic {pair}"}), [*self.secrets(), pair])


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key in a header or in a parameter of the address.

    Attributes:
        env: The environment variable with the key.
        header: The header's name.
        param: The parameter's name, in place of a header.
    """

    renews = False
    env: str
    header: str = "X-Api-Key"
    param: str = ""

    def params(self) -> Sequence[str]:
        """See Auth."""
        return (self.param,) if self.param else ()

    def secrets(self) -> list[str]:
        """See Auth."""
        return [read(self.env)]

    def session(self) -> Session:
        """See Auth."""
        key = read(self.env)
        return _Fixed(Signed(params={self.param: key}) if self.param else Signed({self.header: key}), [key])


@dataclass(frozen=True, kw_only=True)
class OAuth2:
    """A token for client credentials.

    It is renewed before it ends, and where it is refused.

    Attributes:
        token_url: Who gives tokens.
        client_id_env: The environment variable with the client's id.
        client_secret_env: That with its secret.
        scope: Asked for, if any.
        send: Whether the credentials are sent in the body or in the header `Authorization`.
        extra: Further fields of the body, without secrets.
    """

    renews = True
    token_url: str
    client_id_env: str
    client_secret_env: str
    scope: str = ""
    send: Literal["body", "header"] = "body"
    extra: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.token_url, self.client_id_env, self.client_secret_env, self.scope, self.send))

    def params(self) -> Sequence[str]:
        """See Auth."""
        return ()

    def secrets(self) -> list[str]:
        """See Auth."""
        return [read(self.client_secret_env)]

    def session(self) -> Session:
        """See Auth."""
        return _Tokens(self, read(self.client_id_env), read(self.client_secret_env))


class _Tokens:
    """The tokens of one pull."""

    def __init__(self, auth: OAuth2, client: str, secret: str) -> None:
        self._auth, self._client, self._secret = auth, client, secret
        self._token, self._until = "", 0.0

    def secrets(self) -> list[str]:
        return [self._secret, self._token, _pair(self._client, self._secret)]

    async def sign(self, api: Api, *, again: bool) -> Signed:
        if again or time.monotonic() > self._until:
            await self._renew(api)
        return Signed({"Authorization": f"Bearer {self._token}"})

    async def _renew(self, api: Api) -> None:
        fields = {"grant_type": "client_credentials", **dict(self._auth.extra)}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self._auth.scope:
            fields["scope"] = self._auth.scope
        if self._auth.send == "body":
            fields |= {"client_id": self._client, "client_secret": self._secret}
        else:
            headers["Authorization"] = f"Basic {_pair(self._client, self._secret)}"
        call = Call("POST", self._auth.token_url, (), headers, urlencode(fields).encode())
        answer = await api.ask(call, signed=False)
        try:
            said = msgspec.json.decode(answer.body, type=dict)
            self._token = str(said["access_token"])
            self._until = time.monotonic() + max(0.0, float(said.get("expires_in") or 3600.0) - _EARLY)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            problem = f"{self._auth.token_url} gave no token"
            fix = "Check token_url, and what the client may ask for."
            raise TerminalError(
                problem, expected="JSON with access_token", fix=fix, code="credentials_invalid"
            ) from None


def _pair(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
