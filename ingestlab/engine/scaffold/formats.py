"""What a file is: its format, and its columns as text or as values."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.engine.scaffold.guessing import Guess, Seen, guess_text, guess_values
from ingestlab.formats.common.bytes import binary, unpack
from ingestlab.formats.common.columns import one_array
from ingestlab.formats.common.detection import Encoding, by_mark, detect
from ingestlab.formats.common.inference import named
from ingestlab.formats.csv.reader import NULLS, Csv
from ingestlab.formats.csv.settling import sample
from ingestlab.formats.csv.sniffing import Sniffed, sniff
from ingestlab.formats.json.arrow import json_as
from ingestlab.formats.json.documents import layout_of
from ingestlab.formats.json.reader import JsonLines
from ingestlab.formats.json.text import plain, unknown_names
from ingestlab.formats.json.types import look_at
from ingestlab.formats.parquet.reader import Parquet
from ingestlab.interfaces import Store
from ingestlab.pipeline.catalog import PACKED

_HEAD = 256 << 10  # bytes that tell the format
_TABLES = (".csv", ".tsv")
_OPENING = re.compile(r"\[?\s*+\{\s*+[\"}]|\[\s*+\]")  # what no CSV begins with
_ALIKE = 0.9  # of the lines of a file must have the same number of fields for it to be a table


@dataclass(frozen=True)
class Draft:
    """A pipeline before it is written down.

    Attributes:
        reader: ``Csv``, ``JsonLines`` or ``Parquet``.
        options: What its reader gets beside the columns.
        columns: What is known of each column.
        rows: How many rows were looked at.
        notes: What a person should know.
        plain: Whether to leave contract and cleaning out.
        files: How many files they are from.
    """

    reader: str
    options: dict[str, object]
    columns: tuple[Seen, ...]
    rows: int
    notes: tuple[str, ...] = ()
    plain: bool = False
    files: int = 1

    def without(self, column: str, rule: str) -> Draft:
        """Take back one column's guess."""
        if not any(seen.name == column for seen in self.columns):
            return replace(self, plain=True)
        return replace(self, columns=tuple(s.without(rule) if s.name == column else s for s in self.columns))


@dataclass(frozen=True)
class Look:
    """What one file holds, before anything is guessed: its columns as text, JSON text or values.

    Attributes:
        name: Of the file.
        reader: ``Csv``, ``JsonLines`` or ``Parquet``.
        options: What its reader needs to read it.
        table: Its columns.
        notes: What a person should know.
    """

    name: str
    reader: str
    options: dict[str, object]
    table: pa.Table
    notes: tuple[str, ...] = ()


def look_at_file(store: Store, file: FetchedFile, most: int) -> Look | None:
    """Read the beginning of a file. None if it has no columns."""
    piece = Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256)
    head = store.read(file.path, 0, min(file.size, _HEAD))
    if head.startswith(b"PAR1"):
        return _parquet(store, file, most)
    if binary(head) and not by_mark(head):
        return None
    data, _ = unpack(piece, store) if file.size <= most else (head, None)
    if binary(data[:512]) and not by_mark(data):
        return None
    charset = detect(data)
    encoding = charset.name
    text = data[: _HEAD - _HEAD % 4].decode(encoding, errors="replace").removeprefix("\ufeff")
    lines = [line for line in text.splitlines()[:500] if line.strip()]
    if len(data) > _HEAD and len(lines) > 1:
        lines.pop()  # the head may have cut it
    if lines and (_is_object(lines[0]) or _is_document(data, encoding)):
        return _with_encoding(_json_lines(store, file, most, encoding), charset)
    looks, name = sniff(sample(text.encode())), _plain_name(file.name)
    if name.endswith(".log") or (looks.share < _ALIKE and not name.endswith(_TABLES)):
        return None
    return _with_encoding(_csv(store, file, most, encoding, looks), charset)


def draft(looks: Sequence[Look]) -> Draft:
    """Draft a pipeline from what files of one kind hold.

    Raises:
        TerminalError: They are of several formats, or a column has values of several kinds.
    """
    readers = {look.reader: look.name for look in looks}
    if len(readers) > 1:
        got = " and ".join(f"{name}, which {reader} reads" for reader, name in readers.items())
        fix = "Name files of one kind, and write a pipeline for each."
        raise TerminalError("The files are of several formats", got=got, fix=fix, code="pipeline_invalid")
    table = _joined(looks)
    notes = list(dict.fromkeys(note for look in looks for note in look.notes))
    lacking = [name for name in table.column_names if any(name not in look.table.column_names for look in looks)]
    if lacking:
        notes.append(f"not in all files, so they may be missing: {', '.join(lacking)}")
    options = _common_options(looks, notes)
    if looks[0].reader == "Csv":
        seen = _describe_csv(table, options, notes)
        if lacking:
            options["optional"] = tuple(lacking)
    elif looks[0].reader == "JsonLines":
        seen = [_json_column(name, one_array(table[name])) for name in table.column_names]
    else:
        seen = [guess_values(name, one_array(table[name])) for name in table.column_names]
    return Draft(looks[0].reader, options, tuple(seen), len(table), tuple(notes))


def _joined(looks: Sequence[Look]) -> pa.Table:
    """Put the rows of all files into one table. What a file lacks is null."""
    try:
        return pa.concat_tables([look.table for look in looks], promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        fix = "Name files whose columns have the same types."
        raise TerminalError.wrap(error, "The files' types do not fit together", fix, code="pipeline_invalid") from error


def _common_options(looks: Sequence[Look], notes: list[str]) -> dict[str, object]:
    """Choose options of a reader that reads all files."""
    options = dict(looks[0].options)
    ways = [{name: value for name, value in look.options.items() if name != "encoding"} for look in looks]
    if any(way != ways[0] for way in ways):
        options = {"delimiter": None}
        notes.append("the files are not written in the same way: delimiter, quotes and header are found for each")
    encodings = {look.options.get("encoding", "utf-8") for look in looks}
    if len(encodings) > 1:
        options["encoding"] = None
        notes.append(f"the files are of several encodings, found for each: {', '.join(sorted(map(str, encodings)))}")
    return options


def _with_encoding(look: Look, encoding: Encoding) -> Look:
    """Note that its encoding is a guess."""
    note = f"the encoding is {encoding.fact}: see whether its letters are right"
    return replace(look, notes=(*look.notes, note)) if encoding.guess else look


def _csv(store: Store, file: FetchedFile, most: int, encoding: str, looks: Sniffed) -> Look:
    options = looks.options()
    if encoding != "utf-8":
        options["encoding"] = encoding
    how: dict[str, Any] = {"header": 0} | options | {"encoding": encoding, "null_values": ()}
    piece = Csv(**how).split(file, store, most)[0]
    names = Csv(**how).open_text(piece, store).names
    reader = Csv(columns=dict.fromkeys(names, "string"), **how)
    records = reader.read(reader.split(file, store, most)[0], store)
    notes = [] if looks.nth is not None else ["no header: the first record looks like data; give the columns names"]
    notes += [looks.doubt] if looks.doubt else []
    return Look(file.name, "Csv", options, records.table, tuple(notes))


def _describe_csv(table: pa.Table, options: dict[str, object], notes: list[str]) -> list[Seen]:
    """Guess what columns of text are. Adds to the reader's options, and to the notes."""
    guesses = {name: guess_text(one_array(table[name])) for name in table.column_names}
    marks = {name: tuple(sorted({*NULLS, *guess.marks})) for name, guess in guesses.items()}
    if unusual := {name: texts for name, texts in marks.items() if len(texts) > len(NULLS)}:
        options["null_values"] = unusual
    form = _common_format(guesses, notes)
    if form:
        options["timestamp_format"] = form
    notes += [f"column {name} stays text: {guess.doubt}" for name, guess in guesses.items() if guess.doubt]
    return [Seen.of(name, guess, one_array(table[name]), {*marks[name]}) for name, guess in guesses.items()]


def _common_format(guesses: dict[str, Guess], notes: list[str]) -> str | None:
    """Choose the one time format that a reader can have. Columns of others become text."""
    formats = Counter(guess.form for guess in guesses.values() if guess.times)
    if not formats:
        return None
    common, _ = formats.most_common(1)[0]
    for name, guess in guesses.items():
        if guess.times and guess.form != common:
            notes.append(f"column {name} stays text: a reader knows one format of times, here {common or 'ISO 8601'}")
            guesses[name] = Guess("string")
    return common


def _json_lines(store: Store, file: FetchedFile, most: int, encoding: str) -> Look:
    options: dict[str, object] = {} if encoding == "utf-8" else {"encoding": encoding}
    plain_reader = JsonLines(encoding=encoding)
    piece = plain_reader.split(file, store, most)[0]
    lined = plain_reader.lines(piece, store)
    names = unknown_names(lined.data, lined.spans, (), plain_reader.max_record_bytes, plain_reader.max_depth)
    ordered = sorted(names, key=lambda name: lined.data.find(json.dumps(name, ensure_ascii=False).encode()))
    table = JsonLines(columns=dict.fromkeys(ordered, "json"), encoding=encoding).read(piece, store).table
    return Look(file.name, "JsonLines", options, table)


def _json_column(name: str, values: pa.Array) -> Seen:
    """Describe a column of JSON text: of one simple type, or ``"json"``."""
    kind = look_at(values).type
    if kind is None or isinstance(kind, pa.JsonType):
        return Seen.of_values(name, "json", pa.nulls(len(values), pa.string()))
    if pa.types.is_null(kind):
        return Seen.of_values(name, "string", pa.nulls(len(values), pa.string()))
    if values.drop_null()[0].as_py().startswith('"'):
        words = pa.array([plain(text) for text in values.to_pylist()], pa.string())
        return Seen.of(name, Guess(named(kind)), words, set())
    return Seen.of_values(name, named(kind), json_as(values, kind))


def _parquet(store: Store, file: FetchedFile, most: int) -> Look:
    reader = Parquet()
    return Look(file.name, "Parquet", {}, reader.read(reader.split(file, store, most)[0], store).table)


def _plain_name(name: str) -> str:
    """Strip a file's name of its compression suffix."""
    lower = name.lower()
    return next((lower.removesuffix(suffix) for suffix in PACKED if lower.endswith(suffix)), lower)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _is_document(data: bytes, encoding: str) -> bool:
    """Tell whether a text is a JSON document."""
    text = data.decode(encoding, errors="replace").removeprefix("\ufeff").lstrip()
    return text.startswith(("[", "{")) and layout_of(text.encode()) != "lines" and _OPENING.match(text) is not None
