"""Runs a pipeline on a sample of one file in this process: no queue, no cluster, nothing is kept."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ingestlab.core import access as guard
from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.models import DataFile, FetchedFile, Partition, Source, Tally
from ingestlab.core.schemes import traits
from ingestlab.core.settings import MB, Settings
from ingestlab.engine.lookups import bring
from ingestlab.engine.records import check_source
from ingestlab.engine.task.lookups import bind_lookups
from ingestlab.engine.task.process import Job, process
from ingestlab.engine.task.quality_gate import OPEN
from ingestlab.formats.archive import Archive
from ingestlab.formats.html import Html
from ingestlab.formats.text import Text
from ingestlab.interfaces import Page, Pull, Store, pieces_of
from ingestlab.lake import layout
from ingestlab.lake.data_files import read_part
from ingestlab.lake.storage.store import LocalStore
from ingestlab.pipeline.catalog import Catalog, PipelineSource, generic, load
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.sources.apart import run_apart
from ingestlab.sources.archives.unpack import first_member
from ingestlab.sources.expand import expand
from ingestlab.sources.fetch import Failed, fetch
from ingestlab.sources.raw_zone import RawZone
from ingestlab.sources.records import RecordUri, names_records

SAMPLE = 4 * MB  # bytes of the file, or the files, that are tried
FILES = 8  # of a pattern that are looked at


@dataclass(frozen=True, repr=False)
class Trial:
    """What a pipeline makes of a sample: rows to publish, and rows to keep aside with their reasons."""

    rows: pd.DataFrame
    rejects: pd.DataFrame
    tally: Tally
    rules: dict[str, int]
    whole: bool = True  # whether the sample is all of the file

    def __repr__(self) -> str:
        t, why = self.tally, ", ".join(f"{rule} {n:,}" for rule, n in self.rules.items())
        counts = f"{t.rows_in:,} rows in, {t.out:,} to publish, {t.rejected:,} to reject{f' ({why})' if why else ''}"
        return f"trial: {counts}; they are in .rows and .rejects"


def sample_files(uri: str, settings: Settings) -> tuple[list[str], int]:
    """Choose some of the files that a pattern means: the first, the last, and some between.

    Args:
        uri: A file of any kind that could be submitted, or a pattern of them.
        settings: Who may be called.

    Returns:
        Their addresses, and how many files there are.
    """
    files = [source.address for source in expand([uri], settings)]
    last = len(files) - 1
    return [files[i] for i in sorted({round(n * last / max(1, FILES - 1)) for n in range(FILES)})], len(files)


def joined(trials: Sequence[Trial], *, whole: bool = True) -> Trial:
    """Put the trials of several files together.

    Args:
        trials: One for each.
        whole: Whether these are all files.
    """
    rules: Counter[str] = Counter()
    for trial in trials:
        rules.update(trial.rules)
    return Trial(
        rows=_stacked([trial.rows for trial in trials]),
        rejects=_stacked([trial.rejects for trial in trials]),
        tally=sum((trial.tally for trial in trials), Tally()),
        rules=dict(rules.most_common()),
        whole=whole and all(trial.whole for trial in trials),
    )


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    full = [frame for frame in frames if len(frame)] or list(frames[:1])
    return full[0] if len(full) == 1 else pd.concat(full, ignore_index=True)


def try_pipeline(name: str, uri: str, settings: Settings, sample: int = SAMPLE) -> Trial:
    """Read, clean and check about `sample` bytes of some files.

    Args:
        name: The pipeline.
        uri: A file of any kind that could be submitted, or a pattern of them.
        settings: Where pipelines are, and who may be called.
        sample: Bytes to read, up to the end of a record.

    Raises:
        IngestError: The file or the pipeline does not work; the text says how.
    """
    code = Catalog.read(settings).named(name)
    files, total = sample_files(uri, settings)
    each = sample // len(files)
    return joined([_try_file(code, file, settings, each) for file in files], whole=len(files) == total)


def source_of(name: str, settings: Settings) -> str:
    """Find the record source that a name means. Empty if none.

    Args:
        name: Of a pipeline, or the URI of its source.
        settings: Where pipelines are.
    """
    if names_records(name):
        return name
    code = Catalog.read(settings).sources.get(name)
    source = load(code).source if code else None
    return f"{source.scheme}://{name}" if source else ""


def try_records(uri: str, settings: Settings) -> Trial:
    """Ask a record source for its first page, and try that.

    Args:
        uri: Of the source.
        settings: Where pipelines are, and who may be called.

    Raises:
        IngestError: The source or the pipeline does not work; the text says how.
    """
    guard.check(uri, settings)
    wanted = RecordUri.parse(uri)
    code = Catalog.read(settings).named(wanted.pipeline)
    check_source(load(code), uri)
    page = run_apart(_first_page(load(code), wanted, settings))
    if page is None or not page.rows:
        fix = "Look at what the source is asked for, in the pipeline."
        raise TerminalError(f"{uri} has no records on its first page", fix=fix, code="no_rows")
    with tempfile.TemporaryDirectory() as scratch:
        store = LocalStore(scratch)
        name = f"{wanted.pipeline}.jsonl"
        store.write(name, page.lines)
        file = FetchedFile(uri=uri, path=name, name=name, size=len(page.lines), sha256="")
        references = bring(load(code), code, store, "references", settings)
        pipeline = bind_lookups(load(code), code.sha256, references, store)
        trial = try_source(code, store, file, len(page.lines) + 1, pipeline)
    return replace(trial, whole=page.resume is None)


async def _first_page(pipeline: Pipeline, wanted: RecordUri, settings: Settings) -> Page | None:
    """Take the first page with records, of the first few."""
    assert pipeline.source is not None
    pull = Pull(wanted.pipeline, "trial", settings, window=wanted.window or None, tell=lambda _line: None)
    page: Page | None = None
    async with aclosing(pipeline.source.pages(pull)) as pages:  # type: ignore[type-var]
        async for page in pages:
            if page.rows:
                return page
    return page


def _try_file(code: PipelineSource, uri: str, settings: Settings, sample: int) -> Trial:
    with tempfile.TemporaryDirectory() as scratch:
        pages = isinstance(load(code).reader, Html | Text)
        store, file = open_file(uri, settings, scratch, pages=pages)
        beside = LocalStore(scratch)
        references = bring(load(code), code, beside, "references", settings)
        pipeline = bind_lookups(load(code), code.sha256, references, beside)
        if isinstance(pipeline.reader, Archive):
            file = first_member(file, pipeline.reader, store, RawZone(beside, "members", settings))
            store = beside
        return try_source(code, store, file, sample, pipeline)


def read_rows(uri: str, settings: Settings, sample: int = SAMPLE) -> Trial:
    """Read the beginning of a file without a pipeline.

    Args:
        uri: A file of any kind that could be submitted.
        settings: Who may be called.
        sample: Bytes to read, about: up to the end of a record.

    Raises:
        TerminalError: The file cannot be read, or its suffix names no format.
    """
    with tempfile.TemporaryDirectory() as scratch:
        store, file = open_file(uri, settings, scratch)
        return try_source(generic(file.name, "rows"), store, file, sample)


def try_source(
    code: PipelineSource, store: Store, file: FetchedFile, sample: int, pipeline: Pipeline | None = None
) -> Trial:
    """Try a pipeline's text on an open file. `pipeline` has its references."""
    pipeline = replace(pipeline or load(code), max_reject_ratio=OPEN)  # a trial is there to show the rejects
    first, *others = pieces_of(file, pipeline.reader, store, sample)
    with tempfile.TemporaryDirectory() as scratch:
        lake = LocalStore(scratch)
        job = Job(run="trial", batch="trial", tenant="default", table=pipeline.table, pipeline=code, lake=lake.url)
        receipt = process(Partition(number=0, pieces=(first,)), job, pipeline, store, lake)
        if receipt.errors:
            raise IngestError.from_dict(next(iter(receipt.errors.values())))
        return Trial(
            rows=_frame(receipt.parts, layout.table("default", pipeline.table), "_row", lake),
            rejects=_frame(receipt.rejects, layout.table("default", layout.rejects(pipeline.table)), "row", lake),
            tally=sum(receipt.tallies.values(), Tally()),
            rules=receipt.rules,
            whole=not others,
        )


def open_file(uri: str, settings: Settings, scratch: str, *, pages: bool = False) -> tuple[Store, FetchedFile]:
    """Open a local file in place; download anything else first."""
    if traits(guard.check(uri, settings)).local:
        path = guard.local_path(uri, settings)
        if not path.is_file():
            raise TerminalError(f"File not found: nothing readable at {path}", fix="Check the path.", code="not_found")
        file = FetchedFile(uri=path.as_uri(), path=path.name, name=path.name, size=path.stat().st_size, sha256="")
        return LocalStore(str(path.parent)), file
    store = LocalStore(str(Path(scratch)))
    (got,) = fetch(
        [Source(uri=uri).bared(settings.secret_parameters)],
        store=store,
        folder="raw",
        settings=settings,
        known={},
        pages=pages,
    )
    if isinstance(got, Failed):
        raise got.error
    assert isinstance(got, FetchedFile)
    return store, got


def _frame(parts: Sequence[DataFile], folder: str, by: str, lake: Store) -> pd.DataFrame:
    """Read staged files as a reader of the table would."""
    tables = [read_part(lake, folder, part, part.staged) for part in parts]
    table = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame.sort_values(by, ignore_index=True) if len(frame) else frame
