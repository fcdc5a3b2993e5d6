"""What a user declares: a reader, a pure cleaning function, a contract, and where the rows go."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import NAME
from ingestlab.core.plugins import load
from ingestlab.interfaces import DriftReader, Format, RecordSource, SchemaDrift
from ingestlab.pipeline.aggregate import Aggregate, check_aggregates
from ingestlab.pipeline.catalogues import check_publish_as
from ingestlab.pipeline.documents import Documents
from ingestlab.pipeline.embedding import Embedding
from ingestlab.pipeline.keys import check_keys
from ingestlab.pipeline.mask import Mask, check_mask, masked
from ingestlab.pipeline.reference import Reference, check_references

COLUMN = r"[^\W\d_]\w*"  # of `partition_by`
WriteDisposition = Literal["append", "replace", "merge"]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Declaration of how files of one kind become rows of a table.

    Attributes:
        reader: The format, e.g. ``Csv(columns={...})``. With a `source` it is ``JsonLines()`` if not given: types are
            inferred.
        source: A system whose records the pipeline takes, e.g. ``Rest(base_url=..., endpoint=...)``. It is submitted
            as ``<scheme>://<pipeline>``, and its reader reads JSON lines.
        clean: Frame in, frame out, pure. The index identifies the source row and must be kept: a row that
            is dropped is recorded as a reject, rows made out of one share its index. Frames are pandas on
            Arrow; a function whose argument is annotated as ``polars.DataFrame`` gets that, with the
            source row in the column ``_row``. Its further parameters are names of `references`.
        contract: A pandera model or schema. Rows that break it go to the rejects. ``unique`` holds over the whole
            table: the second row is rejected. Another check that compares rows sees those of one task: one piece of
            a big file, or some small files.
        table: Name of the table; the pipeline's own name if not given.
        matches: Shell patterns of the file names that this pipeline takes when none is named.
        write_disposition: Whether a changed source adds rows ("append") or replaces its earlier ones ("replace"); or
            rows of any source replace those of the table with the same key ("merge").
        key: Columns that tell the rows of a merged table apart. A row that is null there is rejected.
        latest_by: Of several rows with one key, that with the greatest value in this column stays, whenever it
            came; null is the least, and of equal ones the later comes first. Without it the later row stays: that of
            the later commit, and within a commit by file and row.
        delete_if: A column of true and false. A row that is true there takes the row with its key out of a merged
            table, and is not published itself.
        partition_by: Columns that become folders, ``day=2017-10-23/``. A row that is null there is rejected.
        schema_drift: What becomes of columns that the reader's declaration does not know, and of values that
            are not of their column's type. ``"freeze"``: such columns fail the file, such values reject their
            row. ``"evolve"``: such columns join the table with the type that their values have, and a column
            with such values becomes of a wider type in the whole table (integer, then float, then text; date,
            then time, then text): its older data files are rewritten. ``"discard_row"``: a row with either is
            rejected by the rule ``drift``. ``"discard_value"``: such columns are dropped and such values become
            null, counted among a run's rules as ``column:discarded``. None leaves it to the reader's
            `extra_columns`.
            A declared column that is missing fails the file in any case, unless it is `optional`.
        max_reject_ratio: A file of which more than this share of rows is rejected fails as a whole: nothing of
            it is published. None lets every file pass but one whose rows are all rejected, unless it was
            `clean` that left all of them out; 1 lets that one pass, too.
        aggregates: Measures of groups of the published rows, by name, which are always up to date; see
            :class:`ingestlab.pipeline.aggregate.Aggregate`.
        embedding: Vectors of the published rows, computed with them and searchable in Milvus; see
            :class:`ingestlab.Embedding`.
        documents: Documents of MongoDB that go with the published rows; see :class:`ingestlab.Documents`.
        references: Small tables in which `clean` looks things up, by the names of its further parameters:
            ``references={"airports": Reference("airports.csv", Csv(...))}`` and ``clean(df, airports)``. A table
            that changes has no effect on rows that are published; see :class:`ingestlab.pipeline.reference.Reference`.
        publish_as: Catalogues in which the data files of the table are registered after each commit, without a copy:
            some of ``"delta"``, ``"iceberg"``, ``"glue"``. They hold fewer types than Parquet.
        mask: Columns of which no value leaves the reader: ``{"email": "hash", "name": "drop"}``. A hashed value is a
            text, the same for the same value of a tenant; `clean`, contract, sinks, rejects, profiles, logs and errors
            see no other. Rejects of such a pipeline have no raw text. The downloaded file itself is in the raw zone.
        description: One line for ``ingestlab pipelines``.

    Examples:
        >>> from ingestlab import Csv, Pipeline
        >>> pipeline = Pipeline(reader=Csv(), matches=["orders-*.csv"], partition_by="day")
        >>> pipeline.folders
        ('day',)
    """

    reader: Format = None  # type: ignore[assignment]  # it is set below
    source: RecordSource | None = None
    clean: Callable[..., Any] | None = None
    contract: Any = None
    table: str = ""
    matches: Sequence[str] = ()
    write_disposition: WriteDisposition = "append"
    key: str | Sequence[str] = ()
    latest_by: str | None = None
    delete_if: str | None = None
    partition_by: str | Sequence[str] = ()
    schema_drift: SchemaDrift | None = None
    max_reject_ratio: float | None = None
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    references: Mapping[str, Reference] = field(default_factory=dict)
    embedding: Embedding | None = None
    documents: Documents | None = None
    publish_as: str | Sequence[str] = ()
    mask: Mapping[str, Mask] = field(default_factory=dict)
    description: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.reader is None:
            if self.source is None:
                problem, fix = "The pipeline has no reader", "Give one, e.g. reader=Csv(columns={...}), or a source."
                raise TerminalError(problem, fix=fix, code="pipeline_invalid")
            reader = getattr(self.source, "reader", None)  # of what the source writes
            object.__setattr__(self, "reader", reader or load("formats", "json")())

    @property
    def folders(self) -> tuple[str, ...]:
        """Return `partition_by` as a tuple."""
        return (self.partition_by,) if isinstance(self.partition_by, str) else tuple(self.partition_by)

    @property
    def catalogues(self) -> tuple[str, ...]:
        """Return `publish_as` as a tuple."""
        return (self.publish_as,) if isinstance(self.publish_as, str) else tuple(self.publish_as)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Return `key` as a tuple."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def resources(self) -> dict[str, float]:
        """Return the Dask resources of reader and embedding. The two take turns in a task."""
        wanted: dict[str, float] = dict(getattr(self.reader, "resources", {}))
        for name, count in (self.embedding.resources if self.embedding else {}).items():
            wanted[name] = max(count, wanted.get(name, 0))
        return wanted

    @property
    def asks_servers(self) -> bool:
        """Tell whether its tasks ask servers outside, beside the sources."""
        return bool(self.embedding and self.embedding.hosted)

    def named(self, name: str) -> Pipeline:
        """Name the pipeline after its file, and check it.

        Args:
            name: Of the file, without suffix.

        Raises:
            TerminalError: The name of its table, or of a column of `partition_by`, cannot be a folder's; its
                `max_reject_ratio` is no share, its `references` are not what `clean` takes, its reader knows
                nothing of `schema_drift`, a catalogue of `publish_as` cannot hold a declared column, or its rows
                cannot be merged as it says.
        """
        table = self.table or name
        if not re.fullmatch(NAME, table) or "__" in table:
            wanted = f"a table name of letters, digits, '.', single '_' and '-' for pipeline '{name}'"
            raise TerminalError(
                "The table's name cannot be used",
                expected=wanted,
                got=f"{table!r}",
                fix="It becomes a folder's name, beside <table>__rejects.",
                code="name_invalid",
            )
        for column in self.folders:
            if not re.fullmatch(COLUMN, column):
                wanted = f"columns of letters, digits and '_', a letter first, as partition_by of pipeline '{name}'"
                raise TerminalError(
                    "A column of partition_by cannot name folders",
                    expected=wanted,
                    got=f"{column!r}",
                    fix="It becomes a folder's name; readers skip those with a '_'.",
                    code="name_invalid",
                )
        if self.max_reject_ratio is not None and not 0 <= self.max_reject_ratio <= 1:
            wanted = f"a share from 0 to 1 as max_reject_ratio of pipeline '{name}'"
            raise TerminalError(
                "max_reject_ratio is out of range",
                expected=wanted,
                got=f"{self.max_reject_ratio!r}",
                fix="E.g. 0.05; leave it out for no limit.",
                code="pipeline_invalid",
            )
        check_aggregates(self.aggregates, self.folders, name)
        check_references(self.references, self.clean, name)
        check_publish_as(self.catalogues, self.reader, self.clean, self.folders, name)
        embedding = self.embedding.named(table) if self.embedding else None
        reader = _under_drift(self.reader, self.schema_drift, name)
        check_mask(self.mask, reader, name)
        reader = masked(reader, self.mask)
        documents = self.documents.named(table) if self.documents else None
        named = replace(self, name=name, table=table, reader=reader, embedding=embedding, documents=documents)
        check_keys(named, WriteDisposition)
        if self.source is not None:
            _check_source(self.source, self.write_disposition, name)
        return named


def _check_source(source: RecordSource, disposition: str, name: str) -> None:
    """Refuse a record source that is declared wrongly."""
    if not isinstance(getattr(source, "scheme", None), str) or not callable(getattr(source, "pages", None)):
        wanted, fix = f"a record source, such as Rest(...), as source of pipeline '{name}'", "Files need none."
        problem, got = "The source cannot be used", type(source).__name__
        raise TerminalError(problem, expected=wanted, got=got, fix=fix, code="pipeline_invalid")
    source.check(name)
    if source.incremental and disposition == "replace":
        raise TerminalError(
            "An incremental source replaces nothing",
            expected=f"append or merge as write_disposition of pipeline '{name}'",
            got="replace",
            fix="A pull brings only what is new, and the rows before would be lost.",
            code="pipeline_invalid",
        )


def _under_drift(reader: Format, word: SchemaDrift | None, name: str) -> Format:
    """Put a reader under a pipeline's `schema_drift`."""
    if word is None:
        return reader
    if word not in get_args(SchemaDrift):
        wanted = f"one of {', '.join(get_args(SchemaDrift))} as schema_drift of pipeline '{name}'"
        raise TerminalError(
            "schema_drift is unknown",
            expected=wanted,
            got=repr(word),
            fix="See Pipeline's documentation.",
            code="pipeline_invalid",
        )
    if not isinstance(reader, DriftReader):
        wanted = f"a reader that knows schema_drift in pipeline '{name}'"
        raise TerminalError(
            "The reader does not know schema_drift",
            expected=wanted,
            got=type(reader).__name__,
            fix="Leave schema_drift out: all its columns are its own.",
            code="reader_invalid",
        )
    return reader.drifting(word)
