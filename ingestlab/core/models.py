"""The frozen values that pass between stages, and as plain dicts between processes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ingestlab.core.errors import IngestError, UndecodableJobError
from ingestlab.core.signed_uri import bare
from ingestlab.core.validation import first_fault

State = Literal["queued", "fetching", "processing", "committing", "retrying", "finished", "failed", "cancelled"]
Mood = Literal["busy", "good", "warn", "bad"]  # the colour of a state: none, green, amber, red
AttemptState = Literal["retrying", "finished", "failed", "cancelled", "lost"]  # "lost": its worker has died
Status = Literal["committed", "unchanged", "executed", "failed"]  # "executed" is said of notebooks
Kind = Literal["ingest", "compact", "replay", "delete", "reembed", "rewrite", "undo"]

OVER: tuple[State, ...] = ("finished", "failed", "cancelled")
FETCHED = ("content_type", "charset", "filename", "content_encoding")  # facts that the headers of an answer tell
FIRST_FAILURES = 5  # files whose errors a progress tells: it is written several times a second
PARQUET, REJECTS, AGGREGATES = "parquet", "rejects", "aggregates"  # sinks that every table may have files of
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$"  # tenants, tables, queues, runs: they become folder names


class Value(BaseModel):
    """Base of all messages: frozen, closed, and a plain dict on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_dict(self) -> dict[str, Any]:
        """Write the value as JSON-ready plain data."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Restore from :meth:`to_dict`."""
        return cls.model_validate(data)


class Source(Value):
    """One file as its producer announced it."""

    uri: str  # by which everything knows it: without signatures and tokens
    size: int | None = None  # bytes, where a listing told
    version: str | None = None  # ETag, or size and time, where a listing told
    signed: str | None = None  # the whole address, where it has secrets; on the queue alone

    @property
    def address(self) -> str:
        """Return where the file is fetched; not to be shown or kept."""
        return self.signed or self.uri

    def bared(self, secret: Sequence[str] = ()) -> Self:
        """Set the secrets of the address apart. `secret` names more than the usual ones."""
        uri = bare(self.address, secret)
        return self if uri == self.uri else self.model_copy(update={"uri": uri, "signed": self.address})


_UNSIGNED: dict[str, Any] = {"sources": {"__all__": {"signed"}}}  # jobs are named, and recorded, without secrets


class Again(Value):
    """Rejects to replay: those of a rule, of a run, or all."""

    rule: str | None = None  # "rule", or "column:rule" as results name it
    run: str | None = None


class IngestRequest(Value):
    """Message of a producer: some files, and what to do with them."""

    run: str = Field(pattern=NAME)
    tenant: str = Field("default", pattern=NAME)
    pipeline: str | None = Field(None, pattern=NAME)  # None: by file name, else as the format says
    table: str = Field("", pattern=f"^$|{NAME}")  # where files go that no pipeline matches; empty: by their names
    sources: tuple[Source, ...] = Field(min_length=1)
    force: bool = False  # ingest again what is unchanged, replacing its rows
    replay: Again | None = None  # not the files, but the rejects that `table` has of them

    @field_validator("sources")
    @classmethod
    def _once(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        """Drop repeated sources: their rows would be published twice."""
        first: dict[str, Source] = {}
        for source in sources:
            first.setdefault(source.uri, source)
        return tuple(first.values())

    @property
    def job_id(self) -> str:
        """Name the job by what is asked. Asking twice is one job; who asks when does not matter."""
        unsaid = _UNSIGNED | ({"run": True} if self.replay else {"run": True, "replay": True})
        return "ingest-" + digest(self.model_dump(mode="json", exclude=unsaid))[:32]

    def to_dict(self) -> dict[str, Any]:
        """Write plain data. Without signatures the field is left out, for workers that do not know it."""
        signed = any(source.signed for source in self.sources)
        return self.model_dump(mode="json", exclude=None if signed else _UNSIGNED)

    def bared(self, secret: Sequence[str] = ()) -> Self:
        """Set the secrets of addresses apart. Producers in other languages may not have done so."""
        sources = tuple(source.bared(secret) for source in self.sources)
        return self if sources == self.sources else self.model_copy(update={"sources": self._once(sources)})

    @classmethod
    def decode(cls, data: Any) -> Self:
        """Read a message from the queue.

        Raises:
            UndecodableJobError: The message is not an ingest request.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            field, _, problem = first_fault(error)
            got = f"{field or 'message'}: {problem}"
            fix = "Enqueue with ingestlab.submit() or `ingestlab submit`."
            expected = "an ingest request (run, tenant, pipeline, table, sources)"
            raise UndecodableJobError("Message is no request", expected=expected, got=got, fix=fix) from None


class FetchedFile(Value):
    """Downloaded file in the raw zone."""

    uri: str
    path: str  # in the raw zone, relative to the lake
    name: str  # the file's own name, for its suffix and for messages
    size: int
    sha256: str
    version: str | None = None  # what the server or the listing said of it: asks "changed?" next time
    facts: dict[str, str] = Field(default_factory=dict)  # what its server said of it: see FETCHED

    @property
    def charset(self) -> str | None:
        """Return the HTTP header's encoding, a hint where none is declared."""
        return self.facts.get("charset")


class Wanted(Value):
    """Records of a piece that are wanted."""

    rows: tuple[int, ...]  # numbers in the file, ascending
    until: int | None = None  # how many records the file had up to the end of this piece, where that is known


class Piece(Value):
    """Whole records of one file: the bytes from `start` to `stop`, or all of it."""

    uri: str
    path: str
    name: str
    sha256: str
    start: int = 0
    stop: int | None = None  # None: to the end
    first_row: int = 0  # how many records of the file are before this piece
    wanted: Wanted | None = None  # None: all
    settled: dict[str, Any] = Field(default_factory=dict)  # what `split` decided for the whole file, as plain data


class Partition(Value):
    """Work of one Dask task: one piece of a big file, or many small files whole."""

    number: int
    pieces: tuple[Piece, ...]


class DataFile(Value):
    """One Parquet file: where it is staged, and its target, both relative to the lake."""

    target: str
    staged: str
    rows: int
    size: int
    sources: tuple[str, ...] = ()  # URIs with rows in it; empty on parts that are not of the table proper


class Tally(Value):
    """Counts of source rows: all are accepted or rejected. `out` counts published rows."""

    rows_in: int = 0
    accepted: int = 0
    rejected: int = 0
    out: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            rows_in=self.rows_in + other.rows_in,
            accepted=self.accepted + other.accepted,
            rejected=self.rejected + other.rejected,
            out=self.out + other.out,
        )

    @property
    def balanced(self) -> bool:
        """Tell whether every source row is accounted for."""
        return self.rows_in == self.accepted + self.rejected


class Faults(Value):
    """Counts of what was wrong with a file's rejected rows."""

    rules: dict[str, int] = Field(default_factory=dict)  # rows by "column:rule"
    values: dict[str, int] = Field(default_factory=dict)  # rows by the value that was wrong

    def __add__(self, other: Faults) -> Faults:
        both = ((self.rules, other.rules), (self.values, other.values))
        rules, values = (dict(Counter(left) + Counter(right)) for left, right in both)
        return Faults(rules=rules, values=values)


class Profiled(Value):
    """Profile of some parts' rows; see :mod:`ingestlab.analytics.profiles.states`."""

    parts: tuple[str, ...]  # their targets; it is good as long as no commit replaces one of them
    rows: int
    columns: dict[str, dict[str, Any]]  # mergeable states by column
    omitted: int = 0  # columns that were too many
    anew: bool = False  # of rows that an earlier commit has published

    @property
    def profile(self) -> dict[str, Any]:
        """Return the profile alone."""
        return {"rows": self.rows, "columns": self.columns, "omitted": self.omitted}


class Staged(Value):
    """What there is for one sink, not yet visible: files of the lake, and a note of the sink's own."""

    files: tuple[DataFile, ...] = ()
    note: dict[str, Any] | None = None  # plain data, e.g. where rows are to be loaded


FORMERLY = {"parts": PARQUET, "rejects": REJECTS, "states": AGGREGATES, "vectors": "milvus"}  # fields, before 0.2


class Staging(Value):
    """What there is for the sinks of a table."""

    sinks: dict[str, Staged] = Field(default_factory=dict)  # by the name of the sink

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """Read the fields that versions before 0.2 wrote."""
        if not isinstance(data, Mapping) or not (old := data.keys() & {*FORMERLY, "collection"}):
            return data
        sinks = dict(data.get("sinks") or {})
        for field, name in FORMERLY.items():
            files, note = data.get(field) or (), data.get("collection") if field == "vectors" else None
            if files or note or data.get("replaced"):  # what was replaced may be of any sink
                sinks[name] = {"files": files, "note": note}
        return {name: value for name, value in data.items() if name not in old} | {"sinks": sinks}

    def files(self, sink: str) -> tuple[DataFile, ...]:
        """Return the files that there are for one sink."""
        return self.sinks[sink].files if sink in self.sinks else ()

    def with_files(self, files: Mapping[str, Iterable[DataFile]]) -> Self:
        """Replace the files of some sinks, by name; their notes stay."""
        new = {name: self.sinks.get(name, Staged()).model_copy(update={"files": tuple(f)}) for name, f in files.items()}
        return self.model_copy(update={"sinks": self.sinks | new})

    @property
    def parts(self) -> tuple[DataFile, ...]:
        """Return the data files: those with the rows of the table."""
        return self.files(PARQUET)

    @property
    def rejects(self) -> tuple[DataFile, ...]:
        """Return the files with rejects."""
        return self.files(REJECTS)


class Receipt(Staging):
    """Answer of a Dask task: names and counts, never data."""

    number: int
    tallies: dict[str, Tally] = Field(default_factory=dict)  # by URI
    rules: dict[str, int] = Field(default_factory=dict)  # rejected rows by "column:rule"
    errors: dict[str, dict[str, str]] = Field(default_factory=dict)  # by URI, of files that failed as a whole
    seconds: dict[str, float] = Field(default_factory=dict)  # by step
    profile: dict[str, Any] = Field(default_factory=dict)  # of the rows in `parts`
    facts: dict[str, dict[str, str]] = Field(default_factory=dict)  # by URI: encoding, compression
    faults: dict[str, Faults] = Field(default_factory=dict)  # by URI, of cut files under a quality gate
    shared: bool = False  # all files have the error of all: each is to be asked by itself
    types: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # of the columns in `parts`, mostly one each


class SourceRecord(Value):
    """What the lake knows of a committed source."""

    uri: str
    sha256: str
    version: str | None = None
    size: int
    raw: str  # path in the raw zone
    tally: Tally
    run: str
    batch: str
    facts: dict[str, str] = Field(default_factory=dict)  # what its reader found: encoding, compression
    members: tuple[str, ...] = ()  # of an archive, those that are committed: `zip://day1/a.csv`, without the archive
    whole: bool = True  # whether that is all of them; if not, the archive is tried again


class Change(Staging):
    """What a commit changes in a table."""

    pipeline: str
    code: str  # sha256 of the pipeline's source
    sources: tuple[SourceRecord, ...] = ()
    rules: dict[str, int] = Field(default_factory=dict)
    replaced: tuple[str, ...] = ()  # targets of earlier parts that this commit supersedes
    profile: tuple[Profiled, ...] = ()
    references: dict[str, FetchedFile] = Field(default_factory=dict)  # by name: what `clean` looked things up in
    superseded: tuple[str, ...] = ()  # URIs of which sinks take out what earlier commits have brought
    types: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # of the columns in `parts`, folders among them
    key: tuple[str, ...] = ()  # columns by which its rows were merged with those of the table
    unique: bool = False  # whether its rows were compared with those of the table, whose values must be others
    undoes: str = ""  # the run whose commits it undoes


class Manifest(Change):
    """The record of one commit: with it the parts are published, without it they are not."""

    batch: str
    run: str
    tenant: str
    table: str
    sequence: int = 0  # its number in the table's log; of an intent, that of the last entry before it
    committed_at: str  # ISO 8601, UTC
    kind: Kind = "ingest"
    owner: str = ""  # the lease under which it was written
    decided_by: str = ""  # path of the manifest of another table with which this one stands or falls


NAMED_FACTS = ("encoding", "compression", "notebook", "page", "pulled", "run")  # shown under a heading of their own


class Outcome(Value):
    """How one source ended."""

    uri: str
    status: Status
    tally: Tally = Tally()
    size: int = 0
    table: str = ""
    pipeline: str = ""
    batch: str = ""  # that has published it
    facts: dict[str, str] = Field(default_factory=dict)  # what its reader found; where a notebook is kept
    error: dict[str, str] | None = None

    @property
    def assumed(self) -> str:
        """Describe what the reader assumed or found out: ``header line 3``."""
        facts = {name: text for name, text in self.facts.items() if name not in NAMED_FACTS}
        return "; ".join(f"{name}: {text}" for name, text in facts.items())

    def exception(self) -> IngestError | None:
        """Return the error of a failed source."""
        return IngestError.from_dict(self.error) if self.error else None


def by_code(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Group outcomes with errors by code, the commonest first."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if error := outcome.exception():
            groups.setdefault(error.code, []).append(outcome)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


class Published(Value):
    """What one commit of a run has published."""

    rules: dict[str, int] = Field(default_factory=dict)  # rejected rows by "column:rule"
    parquet_bytes: int = 0


class Attempt(Value):
    """One try of a job, as its worker tells of it. It counts what came of it, not what earlier ones had done.

    A wait for a busy source is part of the attempt that waits.

    Attributes:
        job: Whose try it was.
        state: How it ended.
        began: When, in seconds since the epoch.
        ended: Likewise; None if its worker has died.
        worker: Host and process, ``lab-7:4711``.
        counts: Files by status.
        rows: Rows read from the files that it has committed.
        rejected: Those of them that were rejected.
        error: Why it ended so, as :meth:`ingestlab.errors.IngestError.to_dict` writes it.
        failures: The first of the files that failed in it.
        told: Lines that its sources have told.
    """

    job: str
    state: AttemptState
    began: float
    ended: float | None = None
    worker: str = ""
    counts: dict[Status, int] = Field(default_factory=dict)
    rows: int = 0
    rejected: int = 0
    error: dict[str, str] | None = None
    failures: tuple[Outcome, ...] = ()
    told: tuple[str, ...] = ()


class IngestResult(Value):
    """Result of one request over all attempts: an outcome for each source, and what was published.

    A worker makes that of one attempt; :mod:`ingestlab.queue.attempts` adds it to those before.
    """

    run: str
    job: str
    outcomes: tuple[Outcome, ...]
    rules: dict[str, int] = Field(default_factory=dict)  # rejected rows by "column:rule"
    parquet_bytes: int = 0
    tables: tuple[str, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    batches: dict[str, Published] = Field(default_factory=dict)  # of which rules and bytes are the sums
    attempts: tuple[Attempt, ...] = ()  # oldest first
    told: tuple[str, ...] = ()  # lines of the sources, until the attempt has them


class Progress(Value):
    """Progress of a job over all attempts, kept for all displays."""

    state: State = "queued"
    files: int = 0
    files_done: int = 0
    bytes: int = 0
    partitions: int = 0
    partitions_done: int = 0
    rows: int = 0
    rejected: int = 0
    failed: int = 0
    note: str = ""
    share: float = 0.0  # how much is done, 0 to 1, about: of a run; of the fetching, while a job fetches
    failures: tuple[Outcome, ...] = ()  # the first of those that have failed so far; `failed` counts all
    began: float = 0.0  # when the first attempt began, in seconds since the epoch; 0 before
    ended: float = 0.0  # when the last one ended; 0 before

    @property
    def said(self) -> str:
        """Return the state in words, ``finished, 1 of 2 failed``."""
        return say_state(self.state, self.failed, self.files)

    @property
    def mood(self) -> Mood:
        """Return how good the state is."""
        return mood_of(self.state, self.failed)

    def seconds(self, now: float) -> float | None:
        """Return the seconds since it began; None before that.

        Args:
            now: In seconds since the epoch. What has ended stands still.
        """
        return max(0.0, (self.ended or now) - self.began) if self.began else None


def say_state(state: State, failed: int, files: int) -> str:
    """Write a state in words: what was not all good says so.

    Args:
        state: Of a job or a run.
        failed: Files that have failed, or were not done.
        files: All files.
    """
    if not failed or state not in ("finished", "cancelled"):
        return state
    return f"{state}, {failed:,} of {files:,} {'failed' if state == 'finished' else 'not done'}"


def mood_of(state: State, failed: int) -> Mood:
    """Return how good a state is.

    Args:
        state: Of a job or a run.
        failed: Files that have failed, or were not done.
    """
    if state == "finished":
        return "warn" if failed else "good"
    return "bad" if state == "failed" else "warn" if state in ("retrying", "cancelled") else "busy"


def to_json(data: Any) -> bytes:
    """Write plain data as JSON, faster than :mod:`json` does."""
    try:
        return pydantic_core.to_json(data)
    except ValueError:  # half of a surrogate pair, which UTF-8 cannot hold
        return json.dumps(data).encode()


def digest(data: Any) -> str:
    """Hash plain data by a stable sha256."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
