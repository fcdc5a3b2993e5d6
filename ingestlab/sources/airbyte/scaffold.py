"""Pipelines for the streams of a connector, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.sources.airbyte.catalog import Stream, SyncMode
from ingestlab.sources.airbyte.columns import columns_of
from ingestlab.sources.airbyte.config import referred

_ZONED = re.compile(r"timestamp\[(\w+), tz=(.+)\]")
_WIDTH = 116


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a pipeline for a stream is made from.

    Attributes:
        stream: The stream.
        connector: As the pipeline names it; empty for a container.
        image: Of the container.
        config: With references in place of secrets.
    """

    stream: Stream
    connector: str = ""
    image: str = ""
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the pipeline's name: the stream's, with what a file or a table cannot be called left out."""
        return re.sub(r"[_-]{2,}", "_", re.sub(r"[^A-Za-z0-9_-]+", "_", self.stream.label)).strip("_-") or "stream"

    @property
    def mode(self) -> SyncMode:
        """Choose the sync mode: incremental, where the stream can be read so as it is."""
        can = "incremental" in self.stream.modes and (self.stream.own_cursor or self.stream.cursor)
        return "incremental" if can else "full_refresh"

    def key(self, columns: Mapping[str, str]) -> list[str]:
        """Return the key's columns. None where they are nested or of unclear type.

        Args:
            columns: Of the table.
        """
        names = [path[0] for path in self.stream.key if len(path) == 1]
        fit = len(names) == len(self.stream.key) and all(columns.get(name, "json") != "json" for name in names)
        return names if fit else []

    def text(self) -> str:
        """Write the pipeline's file."""
        columns = columns_of(self.stream.schema)
        return "\n".join([*self._head(columns), *self._pipeline(columns)]) + "\n"

    def _head(self, columns: Mapping[str, str]) -> Iterator[str]:
        source = self.connector or self.image
        yield f'"""The stream {_comment(self.stream.label)} of {_comment(source)}: check it, then it is yours."""'
        yield ""
        if any(_ZONED.fullmatch(kind) for kind in columns.values()):
            yield from ("from pyarrow import timestamp", "")
        yield f"from ingestlab import Airbyte, {'JsonLines, ' if columns else ''}Pipeline"
        yield ""

    def _pipeline(self, columns: Mapping[str, str]) -> Iterator[str]:
        yield "PIPELINE = Pipeline("
        yield f"    description={_literal(f'{self.stream.label} of {self.connector or self.image}')},"
        yield "    source=Airbyte("
        yield f"        {'connector' if self.connector else 'image'}={_literal(self.connector or self.image)},"
        yield from _written("config", dict(self.config), 8)
        yield f"        streams=[{_literal(self.stream.label)}],"
        yield f"        sync_mode={_literal(self.mode)},"
        yield "    ),"
        if columns:
            yield "    reader=JsonLines("
            yield "        columns={"
            yield from (f"            {_literal(name)}: {_type(kind)}," for name, kind in columns.items())
            yield "        },"
            yield "    ),"
        if self.mode == "incremental":
            yield from self._merged(columns)
        yield ")"

    def _merged(self, columns: Mapping[str, str]) -> Iterator[str]:
        key = self.key(columns)
        if not key:
            yield "    # No column is named as the key: records that change come again, beside their old rows."
            return
        yield '    write_disposition="merge",'
        yield f"    key={_literal(key[0]) if len(key) == 1 else '[' + ', '.join(map(_literal, key)) + ']'},"
        cursor = self.stream.cursor
        if len(cursor) == 1 and cursor[0] not in key and columns.get(cursor[0], "json") not in {"json", "string"}:
            yield f"    latest_by={_literal(cursor[0])},"


def write(draft: Draft, folder: Path, *, force: bool = False) -> Path:
    """Write a pipeline's file.

    Args:
        draft: What it is made from.
        folder: Where it goes.
        force: Replace a file of that name.

    Returns:
        Its path.

    Raises:
        TerminalError: There is one already, and `force` is not set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{draft.name}.py"
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(draft.text())
    except FileExistsError:
        problem, fix = f"The pipeline {file} exists already", "Use --force to replace it."
        raise TerminalError(problem, fix=fix, code="argument_invalid") from None
    return file


def without_secrets(
    config: Mapping[str, Any], specification: Mapping[str, Any], connector: str
) -> tuple[dict[str, Any], list[str]]:
    """Put references in the place of values that a connector calls secret.

    Args:
        config: As it was given.
        specification: The connector's own.
        connector: Its name, which begins the names of variables.

    Returns:
        The configuration, and the variables that are to be set.
    """
    variables: list[str] = []
    schema = specification.get("connectionSpecification")
    safe = _safe(dict(config), [schema], re.sub(r"\W+", "_", connector).upper(), variables)
    assert isinstance(safe, dict)
    return safe, variables


def _safe(value: Any, schemas: list[Any], path: str, variables: list[str]) -> Any:
    """Walk through a value and all schemas that may describe it."""
    known = [branch for schema in schemas for branch in _branches(schema)]
    if referred(value) is not None:
        return value
    if isinstance(value, Mapping):
        inner: dict[str, Any] = {}
        for key, one in value.items():
            described = [(branch.get("properties") or {}).get(key) for branch in known]
            inner[key] = _safe(one, described, f"{path}_{re.sub(r'[^A-Za-z0-9]+', '_', str(key)).upper()}", variables)
        return inner
    if isinstance(value, list):
        items = [branch.get("items") for branch in known]
        return [_safe(one, items, f"{path}_{place}", variables) for place, one in enumerate(value, 1)]
    if any(branch.get("airbyte_secret") for branch in known) and isinstance(value, str):
        variables.append(path)
        return {"env": path}
    return value


def _branches(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        yield schema
        for word in ("oneOf", "anyOf", "allOf"):
            for branch in schema.get(word) or ():
                yield from _branches(branch)


def _written(name: str, value: Any, indent: int) -> Iterator[str]:
    """Write an argument: in one line, or else an item a line."""
    space = " " * indent
    line = f"{space}{name}={_value(value)},"
    if len(line) <= _WIDTH or not isinstance(value, dict):
        yield line
        return
    yield f"{space}{name}={{"
    yield from (f"{space}    {_literal(str(key))}: {_value(inner)}," for key, inner in value.items())
    yield f"{space}}},"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(str(key))}: {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _literal(value) if isinstance(value, str) else repr(value)


def _type(kind: str) -> str:
    zoned = _ZONED.fullmatch(kind)
    return f"timestamp({_literal(zoned[1])}, {_literal(zoned[2])})" if zoned else _literal(kind)


def _literal(text: str) -> str:
    """Write a text as Python does, in double quotes."""
    inner = repr("'" + text)[2:-1]  # the apostrophe has repr choose double quotes, where there are none in it
    return f'"{inner}"' if '"' not in text else repr(text)


def _comment(text: str) -> str:
    return _literal(text)[1:-1].replace('"', "'")
