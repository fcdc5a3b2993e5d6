"""A draft as a pipeline's file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from ingestlab.engine.scaffold.formats import Draft
from ingestlab.engine.scaffold.guessing import OFTEN, Seen

_MOST_FOLDERS = 366
_ZONED = re.compile(r"timestamp\[(\w+), tz=(.+)\]")
_NAMED = re.compile(r"u?int\d+|float\d+|bool|string|date32|json|(?:timestamp|time32|time64|duration)\[\w+\]")


def render(draft: Draft, filename: str, matches: Sequence[str] | None) -> str:
    """Write the text of a pipeline's file.

    Args:
        draft: What is known of the file.
        filename: The file that it was made from.
        matches: Patterns of the names of files that it takes; None if another pipeline takes them.
    """
    placeholders = {} if draft.plain else {s.name: list(s.sentinels) for s in draft.columns if s.sentinels}
    folder = None if draft.plain else _folder(draft)
    blocks = [
        "\n".join(_head(draft, filename, cleans=bool(placeholders or folder))),
        *(["\n".join(_constants(placeholders))] if placeholders else []),
        *(["\n" + "\n".join(_clean(folder, masks=bool(placeholders))) + "\n"] if placeholders or folder else []),
        *([] if draft.plain else ["\n".join(_contract(draft))]),
        "\n".join(_pipeline(draft, filename, matches, cleans=bool(placeholders or folder), folder=folder)),
    ]
    return "\n\n".join(blocks) + "\n"


def _head(draft: Draft, filename: str, *, cleans: bool) -> Iterator[str]:
    looked = "one of them" if draft.files == 1 else f"{draft.files} of them"
    yield f'"""Files like {_comment(filename)}, as {looked} looked: check it, then it is yours."""'
    yield ""
    if cleans:
        yield "import pandas as pd"
    if not draft.plain:
        yield "import pandera.pandas as pa"
    if any(_ZONED.fullmatch(s.kind) for s in draft.columns):
        yield "from pyarrow import timestamp"
    if cleans or not draft.plain:
        yield ""
    yield f"from ingestlab import {', '.join(sorted([draft.reader, 'Pipeline']))}"


def _constants(placeholders: dict[str, list[float]]) -> Iterator[str]:
    yield "NOT_SET = {  # values that stick out as placeholders do"
    for name, values in placeholders.items():
        yield f"    {_literal(name)}: {values!r},"
    yield "}"


def _clean(folder: tuple[str, str] | None, *, masks: bool) -> Iterator[str]:
    does = ["empties placeholders"] if masks else []
    does += [f"adds the {folder[0]} to partition by"] if folder else []
    yield "def clean(df: pd.DataFrame) -> pd.DataFrame:"
    yield f'    """{" and ".join(does).capitalize()}."""'
    if masks:
        yield "    masked = {name: df[name].mask(df[name].isin(values)) for name, values in NOT_SET.items()}"
    wanted = [*(["**masked"] if masks else []), *([f"{folder[0]}={folder[1]}"] if folder else [])]
    yield f"    return df.assign({', '.join(wanted)})"


def _contract(draft: Draft) -> Iterator[str]:
    key = _key(draft)
    if key:
        yield f"# Candidate key: {_comment(key.name)}; no value of it came twice in {draft.rows:,} rows."
    if any([*_checks(seen)] for seen in draft.columns):
        files = "one file" if draft.files == 1 else f"{draft.files} files"
        yield f"# Limits from {draft.rows:,} rows of {files}, with room on either side."
    yield "CONTRACT = pa.DataFrameSchema("
    yield "    {"
    for seen in draft.columns:
        options = [*_checks(seen), *(["nullable=True"] if seen.nullable or seen.kind == "json" else [])]
        yield f"        {_literal(seen.name)}: pa.Column({', '.join(options)}),"
    yield "    }"
    yield ")"


def _checks(seen: Seen) -> Iterator[str]:
    if seen.members:
        yield f"checks=pa.Check.isin([{', '.join(map(_literal, seen.members))}])"
    elif seen.low is not None and seen.high is not None:
        yield f"checks=pa.Check.in_range({seen.low!r}, {seen.high!r})"


def _pipeline(
    draft: Draft, filename: str, matches: Sequence[str] | None, *, cleans: bool, folder: tuple[str, str] | None
) -> Iterator[str]:
    yield "PIPELINE = Pipeline("
    yield f"    description={_literal(f'Files like {filename}')},"
    yield (
        "    # matches: another pipeline takes files of this name."
        if matches is None
        else f"    matches=[{', '.join(map(_literal, matches))}],"
    )
    kinds = {s.name: _kind(s.kind) for s in draft.columns}
    yield f"    reader={draft.reader}("
    if all(kinds.values()):
        yield "        columns={"
        for name, kind in kinds.items():
            yield f"            {_literal(name)}: {kind},"
        yield "        },"
    for option, value in draft.options.items():
        yield f"        {option}={_option(value)},"
    yield "    ),"
    if cleans:
        yield "    clean=clean,"
    if not draft.plain:
        yield "    contract=CONTRACT,"
    if folder:
        yield f"    partition_by={_literal(folder[0])},"
    yield ")"


def _kind(kind: str) -> str | None:
    """Write a type as it is declared; None without a short name."""
    zoned = _ZONED.fullmatch(kind)
    if zoned:
        return f"timestamp({_literal(zoned[1])}, {_literal(zoned[2])})"
    return _literal(kind) if _NAMED.fullmatch(kind) else None


def _folder(draft: Draft) -> tuple[str, str] | None:
    """Choose a column to partition by: the day or month of the first time column."""
    taken = {s.name for s in draft.columns}
    for seen in draft.columns:
        if not seen.days or seen.nullable:
            continue
        values = f"df[{_literal(seen.name)}]"
        dates = seen.kind.startswith("date")
        if seen.days <= _MOST_FOLDERS and draft.rows >= OFTEN * seen.days:
            return _free("day", taken), values if dates else f"{values}.dt.date"
        if seen.months <= _MOST_FOLDERS and draft.rows >= OFTEN * seen.months:
            times = f'{values}.astype("timestamp[s][pyarrow]")' if dates else values
            return _free("month", taken), f'{times}.dt.strftime("%Y-%m")'
    return None


def _free(name: str, taken: set[str]) -> str:
    return next(n for n in (name, f"{name}_of_data", *(f"{name}{i}" for i in range(len(taken)))) if n not in taken)


def _key(draft: Draft) -> Seen | None:
    unique = [s for s in draft.columns if s.unique]
    named = [s for s in unique if s.is_id]
    return next(iter(named or (unique if draft.rows > OFTEN else [])), None)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _option(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(str(name))}: {_option(said)}" for name, said in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(_literal(str(v)) for v in value)},)"
    return _literal(value) if isinstance(value, str) else repr(value)


def _comment(text: str) -> str:
    """Escape a text that must end neither a comment nor a docstring."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', "'")
