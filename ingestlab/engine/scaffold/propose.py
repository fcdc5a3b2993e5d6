"""Proposes a pipeline for files that have none: format, columns and types, null markers, a first contract.

A proposal is a start for a person to go on from. What it promises is that it ingests the very files that it was
made from, with no reject: every guess is tried on them, and those that do not hold are taken back.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import NamedTuple

from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import NAME, FetchedFile
from ingestlab.core.settings import MB, Settings
from ingestlab.engine.dry_run import Trial, joined, open_file, sample_files, try_source
from ingestlab.engine.scaffold.formats import Draft, draft, look_at_file
from ingestlab.engine.scaffold.writing import render
from ingestlab.interfaces import Store
from ingestlab.pipeline.catalog import Catalog, PipelineSource, foreign, format_of, generic, kind_of, load, split_name

MOST = 64 * MB  # bytes of a file that are looked at
_TEXTS = ("generic.log", "generic.txt", "generic.html", "generic.htm")
_TRIES = 20  # of a draft, each with fewer guesses
_BROKEN = 0.5  # of the records: a format that rejects more is not the file's
_STRUCTURE = ("columns", "quote", "json", "record_size", "field_size", "range")  # rules that no pipeline can help


@dataclass(frozen=True)
class Proposal:
    """Pipeline as text, tried on the file that it was made from.

    Attributes:
        name: What the pipeline is to be called.
        text: The pipeline's file.
        trial: Its clean rows and rejects, of the part of the file that was looked at.
        notes: What a person should know: what was taken back, what cannot be helped.
    """

    name: str
    text: str
    trial: Trial
    notes: tuple[str, ...]


def propose(uri: str, settings: Settings, name: str = "") -> Proposal:
    """Draft a pipeline from some files, reading at most 64 MB.

    Args:
        uri: A file of any kind that could be submitted, or a pattern of files of one kind.
        settings: Which pipelines there are, and who may be called.
        name: What to call the pipeline; after the file if left out.

    Raises:
        TerminalError: A file cannot be read, or is of no format that ingestlab knows; or they are of several formats.
    """
    chosen, total = sample_files(uri, settings)
    with tempfile.TemporaryDirectory() as scratch:
        files = [_Opened(*open_file(file, settings, scratch), MOST // len(chosen)) for file in chosen]
        names = [file.file.name for file in files]
        name = name or kind_of(names[0])
        _, kind = format_of(names[0])
        looks = [None if kind and foreign(kind) else look_at_file(f.store, f.file, f.most) for f in files]
        if any(look is None for look in looks):
            code = generic(names[0], name)
            proposal = Proposal(name, _titled(code.text, names[0]), *_tried(code, files, total))
            return _believed(proposal, names[0])
        sketch = draft([look for look in looks if look])
        proposal = _repaired(replace(sketch, files=len(files)), name, _matches(names, name, settings), files, total)
        if proposal.trial.tally.rejected > _BROKEN * proposal.trial.tally.rows_in:
            return _another(proposal, files, total)
        return proposal


class _Opened(NamedTuple):
    """A file that is looked at, and how many of its bytes."""

    store: Store
    file: FetchedFile
    most: int


def _tried(code: PipelineSource, files: Sequence[_Opened], total: int) -> tuple[Trial, tuple[str, ...]]:
    """Try a pipeline on the files. Returns what came of it, and what a person should know of that."""
    trial = joined([try_source(code, f.store, f.file, f.most) for f in files], whole=len(files) == total)
    return trial, tuple(_unhelpable(trial, len(files), total))


def write(proposal: Proposal, settings: Settings, *, force: bool = False) -> Path:
    """Write a proposal to the first folder of pipelines.

    Args:
        proposal: Has the name and the text.
        settings: Name the folders of pipelines.
        force: Replace a pipeline of that name.

    Returns:
        The path of the pipeline's file.

    Raises:
        TerminalError: There is a pipeline of that name already, and `force` is not set.
    """
    if not re.fullmatch(NAME, proposal.name) or proposal.name.startswith("_"):
        raise TerminalError(
            "The pipeline's name cannot be used",
            expected="a pipeline name of letters, digits, '.', '_' and '-'",
            got=repr(proposal.name),
            fix="Rename it.",
            code="name_invalid",
        )
    folder = Path(settings.pipelines[0]).expanduser()
    file = folder / f"{proposal.name}.py"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(proposal.text)
    except FileExistsError:
        raise TerminalError(
            "The pipeline exists already",
            expected="a new pipeline's name",
            got=f"{file}, which is there",
            fix="Use --force to replace it.",
            code="argument_invalid",
        ) from None
    return file


def _repaired(draft: Draft, name: str, matches: Sequence[str] | None, files: Sequence[_Opened], total: int) -> Proposal:
    """Try a draft on its files, relaxing it until all rows pass."""
    notes = list(draft.notes)
    for tries in count():
        text = render(draft, files[0].file.name, matches)
        code = PipelineSource(name=name, origin=f"{name}.py", text=text)
        load(code)
        try:
            trial, remarks = _tried(code, files, total)
        except TerminalError as error:
            if tries > _TRIES or draft.plain:
                raise
            draft, note = replace(draft, plain=True), f"no contract, since the first try failed: {error.reason}"
            notes.append(note)
            continue
        culprits = [rule.rpartition(":") for rule in trial.rules if rule.rpartition(":")[2] not in _STRUCTURE]
        if not culprits or tries > _TRIES:
            return Proposal(name, text, trial, (*remarks, *notes))
        for column, _, rule in culprits:
            draft = draft.without(column, rule)
            notes.append(f"column {column}: took back what broke the rule '{rule}'")
    raise AssertionError("unreachable")


def _another(proposal: Proposal, files: Sequence[_Opened], total: int) -> Proposal:
    """Propose text for a rejected draft, if the files are named so.

    Raises:
        TerminalError: Nothing takes them.
    """
    first = files[0].file.name
    code = attempt(generic, first, proposal.name)
    if isinstance(code, PipelineSource) and code.origin in _TEXTS:
        trial, _ = _tried(code, files, total)
        if not trial.tally.rejected:
            return Proposal(proposal.name, _titled(code.text, first), trial, ("it is no table: its lines are kept",))
    return _believed(proposal, first)


def _believed(proposal: Proposal, name: str) -> Proposal:
    """Return the proposal. Raises TerminalError where it rejects most of its own file."""
    if proposal.trial.tally.rejected > _BROKEN * proposal.trial.tally.rows_in:
        raise TerminalError(
            f"No pipeline can be proposed for {name}",
            expected=f"a pipeline that takes {name}",
            got=proposal.notes[0],
            fix="See what its producer writes; or say how it is read.",
            code="pipeline_invalid",
        )
    return proposal


def _unhelpable(trial: Trial, looked_at: int, total: int) -> Iterator[str]:
    """Yield warnings of rejected records, and of a file not read whole."""
    yield from _broken(trial)
    if not trial.whole:
        yield (
            f"only {_extent(trial.tally.rows_in, looked_at, total)} were looked at: what this proposes, "
            "the contract too, may reject other ones"
        )


def _extent(rows: int, looked_at: int, total: int) -> str:
    """Describe the sample: rows of one file, or of some files."""
    return f"the first {rows:,} records" if total == 1 else f"{rows:,} records of {looked_at:,} of {total:,} files"


def _broken(trial: Trial) -> Iterator[str]:
    if not trial.tally.rejected:
        return
    rules = ", ".join(f"{rule} {count:,}" for rule, count in trial.rules.items())
    yield (
        f"there is no proposal that takes all of this file: {trial.tally.rejected:,} of {trial.tally.rows_in:,} "
        f"records are broken and will be rejected ({rules})"
    )


def _matches(filenames: Sequence[str], name: str, settings: Settings) -> list[str] | None:
    """Make patterns for files of this kind: digits may differ. None if another pipeline takes one."""
    for other, source in Catalog.read(settings).sources.items():
        declared = attempt(load, source)  # one that does not load takes nothing
        patterns = () if isinstance(declared, TerminalError) else declared.matches
        if other != name and any(fnmatchcase(n.lower(), p.lower()) for p in patterns for n in filenames):
            return None
    return list(dict.fromkeys(map(_pattern, filenames)))


def _pattern(filename: str) -> str:
    stem, suffix = split_name(filename)
    safe = re.sub(r"([\[\]?*])", "[\\1]", stem)
    return re.sub(r"\d+(?:[-_.T:]?\d+)*", "*", safe) + suffix + "*"


def _titled(text: str, filename: str) -> str:
    return f'"""Files like {filename}."""\n\n{text}'
