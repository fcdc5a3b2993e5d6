"""What a person should know of a submission and of how it ended, in the same words wherever it is shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from glob import has_magic
from itertools import chain
from pathlib import Path
from typing import Literal

from ingestlab.core.access import file_name, local_path, scheme_of, shown
from ingestlab.core.errors import attempt
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.schemes import traits
from ingestlab.core.settings import Settings
from ingestlab.pipeline.catalog import Catalog, PipelineSource
from ingestlab.queue.results import RunResult

_KINDS = 5  # of files that no pipeline takes, each with a note
_MUCH = 0.2  # of a run's rows: more rejected ones are worth a word


def of_submission(requests: Sequence[IngestRequest], settings: Settings) -> tuple[str, ...]:
    """Tell what may surprise in the files of a submission.

    Args:
        requests: As they will be queued.
        settings: Under which they are submitted.
    """
    sources = list(chain.from_iterable(request.sources for request in requests))
    unseen = [source for source in sources if source.size is None and traits(scheme_of(source.uri)).local]
    notes = [f"{_named(unseen, settings)} not on this machine: queued for workers that may see other disks"]
    return (*(notes if unseen else ()), *_unclaimed(requests[0], sources, settings))


def of_result(result: RunResult, place: Literal["terminal", "notebook"]) -> tuple[str, ...]:
    """Tell that nothing was done, or that much was rejected.

    Args:
        result: Of a run that has ended.
        place: Where the command is to be given.
    """
    if result.outcomes and result.count("unchanged") == len(result.outcomes):
        again = "force=True" if place == "notebook" else "--force"
        return (f"All of it was there already, so nothing was done; {again} ingests it as its pipeline says now.",)
    tally = result.tally
    if not result.rules or tally.rejected <= _MUCH * tally.rows_in:
        return ()
    rule, count = max(result.rules.items(), key=lambda item: item[1])
    command = f"ingestlab rejects {result.run} --rule {shlex.quote(rule)}"
    if place == "notebook":
        command = f"run.rejects({rule!r})"
    share = f"{tally.rejected / tally.rows_in:.0%} of the rows were rejected"
    return (f"{share}, most by the rule {rule} ({count:,} {'time' if count == 1 else 'times'}). See them: {command}",)


def _unclaimed(request: IngestRequest, sources: Sequence[Source], settings: Settings) -> list[str]:
    """Name the files that no pipeline takes, by kind. Without pipelines here only the workers know."""
    catalog = Catalog.read(settings)
    if request.pipeline or not (catalog.sources or settings.workers_here):
        return []
    kinds: dict[str, list[Source]] = {}
    for source in sources:
        code = attempt(catalog.matching, file_name(source.uri), request.table)
        if isinstance(code, PipelineSource) and code not in catalog.sources.values():
            kinds.setdefault(code.name, []).append(source)
    broken = f" (not loaded: {', '.join(catalog.broken)})" if kinds and catalog.broken else ""
    notes = [
        f"no pipeline takes {_first(files, settings)}{broken}: types guessed, nothing checked, table {table}. "
        f"Write one: ingestlab new {table} --from {shlex.quote(_pattern(files, settings))}"
        for table, files in kinds.items()
    ]
    more = f"no pipeline takes files of {len(kinds) - _KINDS} more kinds either"
    return [*notes[:_KINDS], *([more] if len(kinds) > _KINDS else [])]


def _pattern(sources: Sequence[Source], settings: Settings) -> str:
    """Name files of a kind by a pattern, else the first."""
    paths = [_shown(source, settings) for source in sources]
    folder = paths[0].rpartition("/")[0]
    names = [path.removeprefix(f"{folder}/") for path in paths]
    start = min((re.split(r"[\d.*?\[]", name, maxsplit=1)[0] for name in names), key=len)
    together = start and all(name.startswith(start) and "/" not in name for name in names)
    if len(names) == 1 or not together or has_magic(folder) or traits(scheme_of(sources[0].uri)).host:
        return paths[0]
    ends = {Path(name).suffix for name in names}
    return f"{folder}/{start}*{ends.pop() if len(ends) == 1 else ''}"


def _shown(source: Source, settings: Settings) -> str:
    return str(local_path(source.uri, settings)) if traits(scheme_of(source.uri)).local else shown(source.uri)


def _first(sources: Sequence[Source], settings: Settings) -> str:
    more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
    return _shown(sources[0], settings) + more


def _named(sources: Sequence[Source], settings: Settings) -> str:
    return f"{_first(sources, settings)} {'is' if len(sources) == 1 else 'are'}" if sources else ""
