"""Where the pages of a pull wait until all are there: files that grow, and a file with a note a page.

Each try has a folder of its own, into which it takes the pages of the try before: a worker that was taken for dead
and goes on writing harms nobody. On an object store the folder is on this machine, and what comes is copied to the
lake behind it, some pages at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from ingestlab.core.errors import IngestError
from ingestlab.interfaces import Page, Store
from ingestlab.lake.storage.store import on_disk, storage_error
from ingestlab.sources.pulls.notes import Note, Segment, plain
from ingestlab.sources.raw_zone import LakeFaultError

SEGMENT = 1 << 30  # bytes of a file, about: readers cut it where they like
_NOTES = "notes.jsonl"
_SUFFIX, _FIRM = ".pages", "r.pages"  # of objects with some pages; a retry can go on after one of these
_END = "end"  # says that all pages have come


class Spool:
    """The pages of one try of a pull.

    Args:
        store: The lake.
        place: The folder of the pull, relative to the lake.
    """

    def __init__(self, store: Store, place: str) -> None:
        self.store, self.place = store, place
        self.local = on_disk(store)
        self.pages = self.rows = self.size = 0
        self.resume: dict[str, Any] | None = None
        self.cursor: dict[str, Any] | None = None
        self.complete = False  # whether all pages have come
        self._segments: list[tuple[int, int, int, int, Any]] = []  # first page, last page, bytes, rows, hash
        self._notes: int | None = None
        self._data: int | None = None
        self._unsent: list[tuple[Note, bytes]] = []  # that the lake has not got yet
        self.unsent_bytes = 0
        home = Path(store.full(place)) if self.local else store.scratch() / place.rpartition("/")[2]
        before = self._tries(home)
        self._folder = home / str(before[-1][0] + 1 if before else 1)
        self._earlier = [folder for _, folder in before]

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True)
            self._notes = _opened(self._folder / _NOTES)
            for note, lines in self._kept():
                self._append(note, lines)
            if self.resume is None and not self.complete:
                self._restart()
            for folder in self._earlier:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise self._fault(error) from error
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        for fd in (self._notes, self._data):
            if fd is not None:
                os.close(fd)
        self._notes = self._data = None
        if self.local:
            return
        try:
            if error is not None:
                self.send()
        except LakeFaultError as trouble:  # what went wrong first is what counts
            assert error is not None
            error.add_note(f"The last pages are not in the lake: {trouble}")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, page: Page) -> None:
        """Keep a page.

        Raises:
            LakeFaultError: The lake cannot be written.
        """
        note = Note.model_construct(
            page=self.pages + 1,
            segment=0,
            offset=0,
            size=len(page.lines),
            rows=page.rows,
            sha256=hashlib.sha256(page.lines).hexdigest(),
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            request=page.request,
            resume=plain(page.resume),
            cursor=plain(page.cursor),
        )
        try:
            kept = self._append(note, page.lines)
        except OSError as error:
            raise self._fault(error) from error
        if not self.local:
            self._unsent.append((kept, page.lines))
            self.unsent_bytes += len(page.lines)

    def send(self) -> None:
        """Copy new pages to an object store."""
        some, self._unsent, self.unsent_bytes = self._unsent, [], 0
        if some:
            head = json.dumps([note.to_dict() for note, _ in some]).encode()
            firm = any(note.resume is not None for note, _ in some)
            path = f"{self.place}/{some[0][0].page:08d}{_FIRM if firm else _SUFFIX}"
            try:
                self.store.write(path, b"".join([head, b"\n", *(lines for _, lines in some)]))
            except IngestError as error:
                raise LakeFaultError(error) from error

    def end(self) -> None:
        """Note that all pages have come.

        Raises:
            LakeFaultError: The lake cannot be written.
        """
        self.send()
        self.complete = True
        try:
            if self.local:
                (self._folder / _END).touch()
            else:
                self.store.write(f"{self.place}/{_END}", b"{}")
        except OSError as error:
            raise self._fault(error) from error
        except IngestError as error:
            raise LakeFaultError(error) from error

    def segments(self, folder: str) -> tuple[Segment, ...]:
        """Name the files by their contents.

        Args:
            folder: Where they go, relative to the lake.
        """
        root = self.store.full("")
        return tuple(
            Segment(
                first=first,
                last=last,
                path=f"{folder}/{digest.hexdigest()}.jsonl",
                spooled=str(self._segment(number)).removeprefix(root) if self.local else "",
                size=size,
                rows=rows,
                sha256=digest.hexdigest(),
            )
            for number, (first, last, size, rows, digest) in enumerate(self._segments, 1)
            if size
        )

    def file_of(self, segment: Segment) -> Path:
        """Give the local file of a segment."""
        firsts = [first for first, *_ in self._segments]
        return self._segment(firsts.index(segment.first) + 1)

    def notes(self) -> bytes:
        """Read the notes of all pages, as JSON lines."""
        return (self._folder / _NOTES).read_bytes()

    def _append(self, note: Note, lines: bytes) -> Note:
        assert self._notes is not None
        if self._data is None or self._segments[-1][2] >= SEGMENT:
            self._begin(note.page)
        assert self._data is not None
        first, _, size, rows, digest = self._segments[-1]
        _write(self._data, lines)
        digest.update(lines)
        self._segments[-1] = (first, note.page, size + len(lines), rows + note.rows, digest)
        kept = note.model_copy(update={"segment": len(self._segments), "offset": size})
        _write(self._notes, kept.model_dump_json().encode() + b"\n")
        self.pages, self.rows, self.size = note.page, self.rows + note.rows, self.size + len(lines)
        self.resume = kept.resume
        self.cursor = self.cursor if kept.cursor is None else kept.cursor
        return kept

    def _restart(self) -> None:
        """Forget the pages, of which no retry can go on."""
        if self._data is not None:
            os.close(self._data)
            self._data = None
        for number in range(1, len(self._segments) + 1):
            self._segment(number).unlink()
        assert self._notes is not None
        os.ftruncate(self._notes, 0)
        self.pages = self.rows = self.size = 0
        self.cursor = None
        self._segments.clear()
        if not self.local:
            self.store.delete_files([f"{self.place}/{name}" for name in self.store.children(self.place)])

    def _begin(self, page: int) -> None:
        if self._data is not None:
            os.close(self._data)
        self._segments.append((page, page, 0, 0, hashlib.sha256()))
        self._data = _opened(self._segment(len(self._segments)))

    def _segment(self, number: int) -> Path:
        return self._folder / f"{number}.jsonl"

    def _kept(self) -> Iterator[tuple[Note, bytes]]:
        """Yield the pages from which this try goes on, in order."""
        if not self.local:
            yield from self._sent()
            return
        _, folder, notes = max(
            (len(n), f, n) for f in (self._folder, *self._earlier) if (n := _noted(f)) or f == self._folder
        )
        whole = (folder / _END).exists()
        for page, note in enumerate(notes, 1):
            with suppress(FileNotFoundError), (folder / f"{note.segment}.jsonl").open("rb") as file:
                file.seek(note.offset)
                lines = file.read(note.size)
                if note.page == page and hashlib.sha256(lines).hexdigest() == note.sha256:
                    yield note, lines
                    continue
            return
        self.complete = whole

    def _sent(self) -> Iterator[tuple[Note, bytes]]:
        """Yield the pages that the lake has got."""
        waiting: list[tuple[Note, bytes]] = []
        try:
            children = self.store.children(self.place)
            names, whole = [name for name in children if name.endswith(_SUFFIX)], _END in children
            while names and not whole and not names[-1].endswith(_FIRM):
                self.store.delete(f"{self.place}/{names.pop()}")
            for name in names:
                while waiting and waiting[-1][0].page >= int(name[:8]):
                    waiting.pop()  # a later try has got them again
                if int(name[:8]) != self.pages + len(waiting) + 1:
                    return  # an earlier object is missing
                head, _, data = self.store.read(f"{self.place}/{name}").partition(b"\n")
                start = 0
                for text in json.loads(head):
                    note = Note.from_dict(text)
                    lines = data[start : start + note.size]
                    start += note.size
                    if hashlib.sha256(lines).hexdigest() != note.sha256:
                        return
                    waiting.append((note, lines))
                    if note.resume is not None:
                        yield from waiting
                        waiting.clear()
        except IngestError as error:
            raise LakeFaultError(error) from error
        yield from waiting if whole else ()
        self.complete = whole

    def _tries(self, home: Path) -> list[tuple[int, Path]]:
        try:
            numbers = sorted(int(name) for name in os.listdir(home) if name.isdigit())  # noqa: PTH208 - names alone
        except FileNotFoundError:
            numbers = []
        return [(number, home / str(number)) for number in numbers]

    def _fault(self, error: OSError) -> LakeFaultError:
        return LakeFaultError(storage_error(error, self.place))


def _noted(folder: Path) -> list[Note]:
    """Read the notes of a try: to its end, or up to the last page from which a retry can go on."""
    notes: list[Note] = []
    with suppress(FileNotFoundError, ValidationError):
        for line in (folder / _NOTES).read_bytes().rpartition(b"\n")[0].splitlines():
            notes.append(Note.model_validate_json(line))  # noqa: PERF401 - those before a bad one count
    while notes and notes[-1].resume is None and not (folder / _END).exists():
        notes.pop()
    return notes


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
