"""Proposes a pipeline for a file that has none: format, columns and types, null markers, a first contract.

A proposal is a start for a person to go on from. What it promises is that it ingests the very file that it was
made from, with no reject: every guess is tried on the file, and those that do not hold are taken back.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path

from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import NAME, FetchedFile
from ingestlab.core.settings import MB, Settings
from ingestlab.engine.dry_run import Trial, open_file, try_source
from ingestlab.engine.scaffold.formats import Draft, draft
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
    """Draft a pipeline from a file, reading at most 64 MB.

    Args:
        uri: A file of any kind that could be submitted.
        settings: Which pipelines there are, and who may be called.
        name: What to call the pipeline; after the file if left out.

    Raises:
        TerminalError: The file cannot be read, or is of no format that ingestlab knows.
    """
    with tempfile.TemporaryDirectory() as scratch:
        store, file = open_file(uri, settings, scratch)
        name = name or kind_of(file.name)
        _, kind = format_of(file.name)
        draft_of_file = None if kind and foreign(kind) else draft(store, file, MOST)
        matches = _matches(file.name, name, settings)
        if draft_of_file is None:
            code = generic(file.name, name)
            trial = try_source(code, store, file, MOST)
            proposal = Proposal(name, _titled(code.text, file), trial, tuple(_unhelpable(trial)))
            return _believed(proposal, file)
        proposal = _repaired(draft_of_file, name, matches, store, file)
        if proposal.trial.tally.rejected > _BROKEN * proposal.trial.tally.rows_in:
            return _another(proposal, file, store)
        return proposal


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


def _repaired(draft: Draft, name: str, matches: str | None, store: Store, file: FetchedFile) -> Proposal:
    """Try a draft on its file, relaxing it until all rows pass."""
    notes = list(draft.notes)
    for tries in count():
        text = render(draft, file.name, matches)
        code = PipelineSource(name=name, origin=f"{name}.py", text=text)
        load(code)
        try:
            trial = try_source(code, store, file, MOST)
        except TerminalError as error:
            if tries > _TRIES or draft.plain:
                raise
            draft, note = replace(draft, plain=True), f"no contract, since the first try failed: {error.reason}"
            notes.append(note)
            continue
        culprits = [rule.rpartition(":") for rule in trial.rules if rule.rpartition(":")[2] not in _STRUCTURE]
        if not culprits or tries > _TRIES:
            return Proposal(name, text, trial, (*_unhelpable(trial), *notes))
        for column, _, rule in culprits:
            draft = draft.without(column, rule)
            notes.append(f"column {column}: took back what broke the rule '{rule}'")
    raise AssertionError("unreachable")


def _another(proposal: Proposal, file: FetchedFile, store: Store) -> Proposal:
    """Propose text for a rejected draft, if the file is named so.

    Raises:
        TerminalError: Nothing takes the file.
    """
    code = attempt(generic, file.name, proposal.name)
    if isinstance(code, PipelineSource) and code.origin in _TEXTS:
        trial = try_source(code, store, file, MOST)
        if not trial.tally.rejected:
            return Proposal(proposal.name, _titled(code.text, file), trial, ("it is no table: its lines are kept",))
    return _believed(proposal, file)


def _believed(proposal: Proposal, file: FetchedFile) -> Proposal:
    """Return the proposal. Raises TerminalError where it rejects most of its own file."""
    if proposal.trial.tally.rejected > _BROKEN * proposal.trial.tally.rows_in:
        raise TerminalError(
            f"No pipeline can be proposed for {file.name}",
            expected=f"a pipeline that takes {file.name}",
            got=proposal.notes[0],
            fix="See what its producer writes; or say how it is read.",
            code="pipeline_invalid",
        )
    return proposal


def _unhelpable(trial: Trial) -> Iterator[str]:
    """Yield warnings of rejected records, and of a file not read whole."""
    yield from _broken(trial)
    if not trial.whole:
        yield (
            f"only the first {trial.tally.rows_in:,} records were looked at: what this proposes, "
            "the contract too, may reject later ones"
        )


def _broken(trial: Trial) -> Iterator[str]:
    if not trial.tally.rejected:
        return
    rules = ", ".join(f"{rule} {count:,}" for rule, count in trial.rules.items())
    yield (
        f"there is no proposal that takes all of this file: {trial.tally.rejected:,} of {trial.tally.rows_in:,} "
        f"records are broken and will be rejected ({rules})"
    )


def _matches(filename: str, name: str, settings: Settings) -> str | None:
    """Make a pattern for files of this kind: digits may differ. None if another pipeline takes the file."""
    for other, source in Catalog.read(settings).sources.items():
        declared = attempt(load, source)  # one that does not load takes nothing
        patterns = () if isinstance(declared, TerminalError) else declared.matches
        if other != name and any(fnmatchcase(filename.lower(), p.lower()) for p in patterns):
            return None
    stem, suffix = split_name(filename)
    safe = re.sub(r"([\[\]?*])", "[\\1]", stem)
    return re.sub(r"\d+(?:[-_.T:]?\d+)*", "*", safe) + suffix + "*"


def _titled(text: str, file: FetchedFile) -> str:
    return f'"""Files like {file.name}."""\n\n{text}'
