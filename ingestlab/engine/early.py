"""Tasks that begin while their big file is still being copied.

They read what has come of it into the raw zone through a second name of the copy, in the batch's staging folder.
Their batch is named by the try, not by the content, which nobody knows yet. If the file turns out to be known, or
changes, or cannot be had, the folder goes as that of any batch without a commit, and what is needed is done as if
nothing had been begun.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Self

from ingestlab.core.access import file_name
from ingestlab.core.errors import JobStoppedError
from ingestlab.core.models import (
    AGGREGATES,
    PARQUET,
    REJECTS,
    FetchedFile,
    Partition,
    Piece,
    Receipt,
    Source,
    SourceRecord,
    digest,
)
from ingestlab.engine.plan import Plan, Target, even
from ingestlab.engine.preflight import preflight
from ingestlab.engine.services import Services
from ingestlab.engine.task.process import run, run_each
from ingestlab.engine.task.rejects import with_content
from ingestlab.engine.tasks import job_of, key_of
from ingestlab.interfaces import EarlyReader, LateError
from ingestlab.lake import layout
from ingestlab.lake.locks import batch_lock
from ingestlab.lake.storage.store import on_disk
from ingestlab.lake.table import Transaction
from ingestlab.sinks.opening import filled_by
from ingestlab.sources.arriving import Arriving, ArrivingStore, GoneError

LEAST = 16 << 20  # bytes of a file that is worth it
SINKS = {PARQUET, REJECTS, AGGREGATES}  # which need no name of the content, or get it afterwards
log = logging.getLogger("ingestlab")


class EarlyTasks:
    """The tasks of a request's only file, from its first bytes on.

    Whatever goes wrong here ends them, and the job goes on without. They begin with the block and end with it.

    Args:
        target: The table.
        sources: Of the request. There are no early tasks unless it is one, and new.
        known: What the lake has of them that is to be looked at, by URI.
        transaction: Of the table.
        services: The connections to use.

    Attributes:
        arriving: To be told what has come of the file.
    """

    def __init__(
        self,
        target: Target,
        sources: Sequence[Source],
        known: Mapping[str, SourceRecord],
        transaction: Transaction,
        services: Services,
    ) -> None:
        self.arriving = Arriving(self._start)
        self._target, self._sources, self._known = target, sources, known
        self._transaction, self._services = transaction, services
        self._pieces: list[Piece] = []
        self._nameless: set[int] = set()  # numbers of the pieces that were handed out before their content had a name
        self._receipts: list[Receipt] = []
        self._began = self._complete = self._adopted = self._ended = False
        self._error: BaseException | None = None
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._end(error if isinstance(error, JobStoppedError) else GoneError())
        if self._began and not self._adopted:
            self._services.store.delete(layout.staging(self.batch))

    @property
    def batch(self) -> str:
        """Name the batch by the try: no other has its token."""
        uris = [source.uri for source in self._sources]
        return digest({"early": uris, "by": self._transaction.lease.token})[:24]

    @property
    def _stand_in(self) -> str:
        """Give what stands for the content's name until it is known."""
        return digest({"content of": self.batch})

    def plan(self, files: Sequence[FetchedFile]) -> Plan | None:
        """Give the plan that is being carried out. None without one for these files."""
        if self._thread is None:
            return None
        with self._news:
            self._news.wait_for(lambda: self._complete or self._ended)
        file = self.arriving.file
        if not self._complete or file is None or list(files) != [file]:
            self._end(GoneError())
            return None
        self._adopted = True
        pieces = [piece.model_copy(update={"path": file.path, "sha256": file.sha256}) for piece in self._pieces]
        parts = tuple(Partition(number=i, pieces=(piece,)) for i, piece in enumerate(pieces))
        return Plan(batch=self.batch, target=self._target, files=(file,), partitions=parts)

    def receipts(self) -> Iterator[Receipt]:
        """Yield the receipts of tasks that went well, until all have ended."""
        for place in count() if self._adopted else ():
            with self._news:
                self._news.wait_for(lambda: len(self._receipts) > place or self._ended)  # noqa: B023 - it returns here
                if len(self._receipts) == place:
                    return
            receipt, file = self._receipts[place], self.arriving.file
            assert file is not None
            if not receipt.errors:  # what they mean is for the usual way to say
                if receipt.number in self._nameless:
                    with_content(receipt, self._stand_in, file.sha256, self._services.store)
                yield receipt

    def _start(self, copy: Path, size: int) -> None:
        """Begin, if it is worth it and nothing speaks against it."""
        new = len(self._sources) == 1 and self._sources[0].uri not in self._known
        able = isinstance(self._target.pipeline.reader, EarlyReader) and on_disk(self._services.store)
        if new and able and size >= LEAST:
            self._thread = threading.Thread(target=self._run, args=(copy, size), name="ingestlab-early", daemon=True)
            self._thread.start()

    def _run(self, copy: Path, size: int) -> None:
        try:
            if set(filled_by(self._target.pipeline)) <= SINKS and self._services.cluster.is_local():
                self._run_tasks(copy, size)
        except (GoneError, LateError, JobStoppedError):
            pass
        except Exception as error:  # noqa: BLE001 - the usual way will meet it again, and say so
            log.info("early tasks ended: %s", error)
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _run_tasks(self, copy: Path, size: int) -> None:
        uri, path = self._sources[0].uri, f"{layout.staging(self.batch)}/source"
        self._transaction.lease.acquire([batch_lock(self.batch)])
        self._began = True
        self._link(copy, path)
        self._target = preflight(self._target, self._services, [uri])
        file = FetchedFile(uri=uri, path=path, name=file_name(uri), size=size, sha256="")
        plan = Plan(batch=self.batch, target=self._target, files=(file,), partitions=())
        keys = (key_of(plan, str(number)) for number in count())
        calls = self._calls(file, job_of(plan, self._services.settings))
        for _, answers in self._services.cluster.map(run_each, calls, keys, self._target.pipeline.resources):
            with self._news:
                self._receipts += map(Receipt.from_dict, answers)
                self._news.notify_all()

    def _link(self, copy: Path, path: str) -> None:
        """Give the copy a second name. It stays when the first one goes."""
        store, settled = self._services.store, self.arriving.file
        target = Path(store.full(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(store.full(settled.path) if settled else copy, target)

    def _calls(self, file: FetchedFile, job: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield a task for each piece, and then wait for their ends."""
        store = ArrivingStore(self._services.store.url, self.arriving)
        reader, size = self._target.pipeline.reader, even(file.size, self._services.settings.partition_bytes)
        assert isinstance(reader, EarlyReader)
        try:
            for number, piece in enumerate(reader.split_early(file, store, size)):
                settled = self.arriving.file
                if settled is None:
                    self._nameless.add(number)
                self._pieces.append(piece)
                more = {
                    "sha256": settled.sha256 if settled else self._stand_in,
                    "stop": piece.stop or (file.size if piece.start else None),
                }
                part = Partition(number=number, pieces=(piece.model_copy(update=more),))
                yield run, [part.to_dict()], job
        except GoneError as error:
            raise self._error or error from None
        with self._news:
            self._complete = True
            self._news.notify_all()
            self._news.wait_for(lambda: self._error or len(self._receipts) == len(self._pieces))
            if self._error:
                raise self._error

    def _end(self, error: BaseException) -> None:
        """End all tasks that have not ended yet."""
        with self._news:
            self._error = error
            self._news.notify_all()
        self.arriving.leave()
        if self._thread is not None:
            self._thread.join()
