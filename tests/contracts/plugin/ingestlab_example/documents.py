"""A store of documents in SQLite, as a stand-in for a server: each row of a table is one, under a key of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa

from ingestlab.core.models import DataFile, Manifest
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Live, Place, Reason, Rows, Sink, Store, Writer, Written
from ingestlab.lake import layout
from ingestlab.lake.data_files import read_part, stage_table
from ingestlab.lake.log import last_note, live_files

NAME = "documents"
LARGEST = 2**53  # of whole numbers that a reader of JSON can tell apart
COLUMNS = "store TEXT, id TEXT, source TEXT, run TEXT, body TEXT, PRIMARY KEY (store, id)"


class DocumentsWriter(Writer):
    """Stage the documents of a task as a file beside the table."""

    def refuse(self, rows: Rows) -> Mapping[Place, Reason]:
        """Find rows with numbers that JSON would change."""
        found = {}
        for row in rows.table.to_pylist():
            for name, value in row.items():
                if isinstance(value, int) and abs(value) > LARGEST:
                    found[row["_source"], row["_row"]] = Reason("documents:too large", name, str(value))
        return found

    def stage(self, rows: Rows) -> Written:
        """Write a file with the key, the source and the text of each document."""
        to, table = self.to, rows.table
        documents = [
            {
                "id": f"{to.tenant}/{to.table}/{row['_source']}/{rows.pieces[row['_source']].sha256}/{row['_row']}",
                "body": json.dumps({name: value for name, value in row.items() if name[0] != "_"}, default=str),
                "run": to.run,
            }
            for row in table.to_pylist()
        ]
        columns = {name: pa.array([d[name] for d in documents], pa.string()) for name in ("id", "body", "run")}
        staged = pa.table({**columns, "_source": table["_source"], "_row": table["_row"]})
        home = layout.table(to.tenant, layout.beside(to.table, NAME))
        return Written(
            stage_table(staged, rows.name, home, layout.staging(to.batch), to.store), note={"store": to.table}
        )


class Documents(Sink):
    """Keep the rows of every table."""

    writer = DocumentsWriter

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None:
        self._file, self._store = settings.home / "documents.db", store

    def prepare(self, manifest: Manifest) -> None:
        """Write the documents of a commit over those with their keys, and publish the files."""
        note = manifest.sinks[NAME].note
        for part in manifest.files(NAME):
            path = part.staged if self._store.exists(part.staged) else part.target
            if note:  # else the files were merged, and say nothing new
                self._write(note["store"], self._read([part], path))
            self._store.move(part.staged, part.target)

    def finish(self, manifest: Manifest) -> None:
        """Delete the documents and files that a commit has superseded."""
        home = f"{layout.table(manifest.tenant, layout.beside(manifest.table, NAME))}/"
        self._store.delete_files(target for target in manifest.replaced if target.startswith(home))
        if note := manifest.sinks[NAME].note:
            with self._opened() as db:
                stale = [(note["store"], uri, manifest.run) for uri in manifest.superseded]
                db.executemany("DELETE FROM documents WHERE store = ? AND source = ? AND run != ?", stale)

    def undo(self, intent: Manifest, history: Callable[[], Sequence[Manifest]]) -> None:
        """Make the documents of the sources what the log says, and delete the files."""
        if intent.sinks[NAME].note:
            uris = sorted({record.uri for record in intent.sources})
            self._replace(intent.sinks[NAME].note["store"], uris, history())
        self._store.delete_files(part.target for part in intent.files(NAME))

    def verify(self, tenant: str, table: str, live: Live) -> Sequence[str]:
        """Find the sources of which the store has other documents than the lake."""
        lake = {(row["id"], row["_source"]) for row in self._read(live_files(live.manifests(), NAME))}
        with self._opened() as db:
            there = set(db.execute("SELECT id, source FROM documents WHERE id LIKE ?", (f"{tenant}/{table}/%",)))
        return sorted({source for _, source in lake ^ there})

    def restore(self, tenant: str, table: str, uris: Sequence[str], live: Live) -> None:
        """Make the documents of some sources what the lake has of them."""
        if note := last_note(live.latest(), NAME):
            self._replace(note["store"], uris, live.manifests())

    def _replace(self, store: str, uris: Sequence[str], history: Sequence[Manifest]) -> None:
        with self._opened() as db:
            db.executemany("DELETE FROM documents WHERE store = ? AND source = ?", [(store, uri) for uri in uris])
        parts = (part for part in live_files(history, NAME) if set(part.sources) & set(uris))
        self._write(store, (row for row in self._read(parts) if row["_source"] in uris))

    def _read(self, parts: Iterable[DataFile], path: str | None = None) -> Iterator[dict[str, Any]]:
        for part in parts:
            yield from read_part(self._store, part.target.rpartition("/")[0], part, path).to_pylist()

    def _write(self, store: str, rows: Iterable[dict[str, Any]]) -> None:
        with self._opened() as db:
            values = [(store, row["id"], row["_source"], row["run"], row["body"]) for row in rows]
            db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?)", values)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._file, timeout=30)) as db, db:
            db.execute(f"CREATE TABLE IF NOT EXISTS documents ({COLUMNS})")
            yield db
