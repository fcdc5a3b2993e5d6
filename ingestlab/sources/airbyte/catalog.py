"""What a connector can read: its streams, and how one of them is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ingestlab.core.errors import TerminalError, did_you_mean

SyncMode = Literal["full_refresh", "incremental"]


@dataclass(frozen=True)
class Stream:
    """A stream of a connector's catalogue.

    Attributes:
        name: Its name.
        namespace: E.g. a schema of a database; empty for none.
        described: As the connector describes it.
    """

    name: str
    namespace: str
    described: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Return the name with the namespace before it."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def modes(self) -> tuple[str, ...]:
        """Return the sync modes that it offers."""
        return tuple(self.described.get("supported_sync_modes") or ("full_refresh",))

    @property
    def key(self) -> tuple[tuple[str, ...], ...]:
        """Return the paths of its primary key; none where it has none."""
        return tuple(tuple(path) for path in self.described.get("source_defined_primary_key") or ())

    @property
    def cursor(self) -> tuple[str, ...]:
        """Return the path of the cursor field; empty for none."""
        return tuple(self.described.get("default_cursor_field") or ())

    @property
    def own_cursor(self) -> bool:
        """Tell whether the connector itself knows what is new."""
        return bool(self.described.get("source_defined_cursor"))

    @property
    def schema(self) -> Mapping[str, Any]:
        """Return the JSON schema of its records."""
        return self.described.get("json_schema") or {}

    def configured(self, mode: SyncMode, cursor: str = "") -> dict[str, Any]:
        """Return the catalogue that asks for this stream alone.

        Args:
            mode: How it is read.
            cursor: The field that tells what is new, where the connector leaves that open.

        Raises:
            TerminalError: The stream cannot be read so.
        """
        if mode not in self.modes:
            problem = f"The stream {self.label} cannot be read in the sync mode {mode}"
            fix = f'Say sync_mode="{self.modes[0]}".'
            raise TerminalError(problem, expected=" or ".join(self.modes), fix=fix, code="pipeline_invalid")
        field = [cursor] if cursor and not self.own_cursor else list(self.cursor)
        if mode == "incremental" and not self.own_cursor and not field:
            problem = f"It is open which field of the stream {self.label} tells what is new"
            fix = 'Say cursor_field="…": a field that grows with every change.'
            raise TerminalError(problem, fix=fix, code="pipeline_invalid")
        asked: dict[str, Any] = {"stream": dict(self.described), "sync_mode": mode, "destination_sync_mode": "append"}
        asked |= {"cursor_field": field} if field else {}
        asked |= {"primary_key": [list(path) for path in self.key]} if self.key else {}
        return {"streams": [asked]}


def streams_of(catalog: Mapping[str, Any]) -> list[Stream]:
    """List the streams of a message of type CATALOG.

    Args:
        catalog: What stands in the message.
    """
    described = [one for one in catalog.get("streams") or () if isinstance(one, dict) and one.get("name")]
    return [Stream(str(one["name"]), str(one.get("namespace") or ""), one) for one in described]


def find(name: str, streams: Sequence[Stream], connector: str) -> Stream:
    """Find a stream by its name, or by namespace and name.

    Args:
        name: ``users``, or ``public.users``.
        streams: Those that there are.
        connector: Whose; for errors.

    Raises:
        TerminalError: There is none, or there are several.
    """
    exact = [one for one in streams if one.label == name] or [one for one in streams if one.name == name]
    if len(exact) == 1:
        return exact[0]
    if exact:
        problem, got = f"The stream {name} of {connector} is in several namespaces", ", ".join(s.label for s in exact)
        raise TerminalError(problem, got=got, fix="Name one of them.", code="stream_unknown")
    labels = [one.label for one in streams]
    fix = did_you_mean(name, labels, f"`ingestlab airbyte discover {connector}` lists them.")
    problem = f"{connector} has no stream {name}"
    got = f"{', '.join(labels[:20])}{' …' * (len(labels) > 20)}" or "none at all"
    raise TerminalError(problem, got=got, fix=fix, code="stream_unknown")
