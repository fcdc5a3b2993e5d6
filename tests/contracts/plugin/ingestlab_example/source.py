"""Tables of SQLite files as sources: ``sqlite:///folder/shop.db/orders.jsonl`` is the table `orders`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import FetchedFile, Source, SourceRecord
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings
from ingestlab.interfaces import RawFile, Unchanged
from ingestlab.sources.blocking import BlockingSource

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"


class SqliteSource(BlockingSource):
    """Read each row as a line of JSON; the last step of a URI is a table's name, or a pattern."""

    schemes: ClassVar[Mapping[str, Scheme]] = {"sqlite": Scheme(local=True, quoted=True)}  # in INGESTLAB_FILE_ROOTS

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> list[Source]:
        """List the tables that match; a database has no versions, so that content tells what is new."""
        file, wanted = _place(uri)
        try:
            with _opened(file) as db:
                names = [name for (name,) in db.execute(TABLES) if fnmatchcase(name, wanted)]
        except sqlite3.Error as error:
            raise self.translate(error, uri) from error
        if not names:
            raise _missing(uri)
        return [Source(uri=f"sqlite://{quote(file)}/{quote(name)}.jsonl") for name in names]

    def copy(
        self, source: Source, known: SourceRecord | None, raw: RawFile, client: Any, settings: Settings
    ) -> FetchedFile | Unchanged:
        """Write the rows of a table, in the order of their row ids."""
        file, table = _place(source.uri)
        with _opened(file) as db:
            if (table,) not in db.execute(TABLES).fetchall():
                raise _missing(source.uri)
            db.row_factory = sqlite3.Row
            for row in db.execute(f'SELECT * FROM "{table}" ORDER BY rowid'):
                if raw.feed(json.dumps(dict(row)).encode() + b"\n"):
                    raw.spill()
        return raw.settle(None, known)

    def translate(self, error: Exception, uri: str) -> IngestError:
        """Translate an error: a file that is locked may be free later, one that is no database never is."""
        if "locked" in str(error):
            fix = "Submit it again when its writer has finished."
            return TransientError.wrap(error, f"Cannot read {uri}", fix, code="source_unavailable")
        return TerminalError.wrap(error, f"Not an SQLite file with a table: {uri}", "Check the path.", code="bad_file")


def _place(uri: str) -> tuple[str, str]:
    """The file and the table of a URI."""
    file, _, table = unquote(uri.removeprefix("sqlite://")).rpartition("/")
    return file, table.removesuffix(".jsonl")


@contextmanager
def _opened(file: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{Path(file).as_uri()}?mode=ro", uri=True)) as db:
        yield db


def _missing(uri: str) -> TerminalError:
    return TerminalError(f"Table not found: {uri}", fix="Check the name; patterns may be used.", code="not_found")
