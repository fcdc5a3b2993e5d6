"""Bring the members of an archive into the raw zone, each as a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ingestlab.core.archive_uri import member_uri
from ingestlab.core.errors import IngestError, TerminalError, attempt
from ingestlab.core.models import FetchedFile
from ingestlab.formats.archive import Archive
from ingestlab.formats.common.bytes import binary
from ingestlab.formats.common.excerpts import listed, shorten
from ingestlab.interfaces import Store
from ingestlab.sources.archives.entries import (
    BROKEN,
    Entry,
    Packed,
    bomb,
    is_apple_double,
    is_litter,
    look_into,
    most_of,
    too_many,
)
from ingestlab.sources.raw_zone import IncomingFile, LakeFaultError, RawZone

Member = FetchedFile | TerminalError
MAX_NAME = 4096  # characters
_AFTER = ("unexpected end", "runcated", "more data after")  # what is said of damage after whole members
_NAMED = 10  # members that were passed over


@dataclass(frozen=True)
class Unpacked:
    """The members of an archive, and what is wrong with it.

    Attributes:
        file: The archive.
        members: What became of those that match, by URI, in their order.
        trouble: What is wrong with the archive itself; there may be members that are not known.
        facts: What was found out about it.
    """

    file: FetchedFile
    members: dict[str, Member]
    trouble: TerminalError | None = None
    facts: dict[str, str] = field(default_factory=dict)


def unpack(file: FetchedFile, reader: Archive, store: Store, zone: RawZone) -> Unpacked:
    """Copy matching members into the raw zone, named by their content.

    Args:
        file: The archive.
        reader: Says which members are wanted, and how far they may grow.
        store: Where the archive is.
        zone: Where they go.

    Raises:
        IngestError: The lake cannot be read or written; it is no file's fault.
    """
    unpacking = Unpacking(file, reader, store, zone)
    try:
        for uri, member in unpacking:
            unpacking.members[uri] = member
    except TerminalError as error:
        if type(error) is not TerminalError:
            raise
        return Unpacked(file, unpacking.believed(error), error, unpacking.facts)
    if not unpacking.members:
        return Unpacked(file, {}, _unmatched(file, reader, unpacking.others), unpacking.facts)
    return Unpacked(file, _telling(unpacking.members, unpacking.others), None, unpacking.facts)


def _telling(members: dict[str, Member], others: Sequence[str]) -> dict[str, Member]:
    """Say with each member which others of the archive were passed over."""
    if not others:
        return members
    fact = {"archive": f"{len(others):,} other{'s' * (len(others) > 1)} passed over: {_few(others)}"}
    return {
        uri: m.model_copy(update={"facts": {**m.facts, **fact}}) if isinstance(m, FetchedFile) else m
        for uri, m in members.items()
    }


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(shorten(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def _unmatched(file: FetchedFile, reader: Archive, others: Sequence[str]) -> TerminalError:
    problem = f"No members of {file.name} match {listed(reader.patterns)}"
    got = f"none ({len(others):,} others{': ' * bool(others)}{_few(others)})"
    return TerminalError(problem, got=got, fix="See what the producer packed.", code="no_matches")


class Unpacking:
    """Go through an archive, and bring in its members one by one.

    A name that comes again spoils the first.
    """

    def __init__(self, file: FetchedFile, reader: Archive, store: Store, zone: RawZone) -> None:
        self.members: dict[str, Member] = {}
        self.others: list[str] = []  # that no pattern takes
        self._file, self._reader, self._store, self._zone = file, reader, store, zone
        self._most = self._left = most_of(file, reader.limits)
        self._packed: Packed | None = None

    @property
    def facts(self) -> dict[str, str]:
        """Return what was found out so far."""
        packed = self._packed.compression if self._packed else None
        skipped = {"skipped": str(len(self.others))} if self.others else {}
        return {"members": str(len(self.members)), **skipped, **({"compression": packed} if packed else {})}

    def __iter__(self) -> Iterator[tuple[str, Member]]:
        try:
            self._packed = look_into(self._file, self._store, self._most, self._reader.max_members)
            for number, entry in enumerate(self._packed.entries):
                if number >= self._reader.max_members:
                    raise too_many(self._file.name, self._reader.max_members)
                if is_litter(entry.name):
                    continue
                if self._reader.takes(entry.name):
                    with suppress(_LitterError):
                        yield self._one(entry, self._packed)
                else:
                    self.others.append(entry.name[:MAX_NAME])
        except BROKEN as error:
            raise _damaged(error, self._file.name) from error
        except LakeFaultError as fault:
            raise fault.error from fault

    def believed(self, error: TerminalError) -> dict[str, Member]:
        """Return the members that stay when an archive ends in an error.

        What came before a cut is whole. Damage in the middle may be noticed late where the archive is
        compressed, so that nothing before it can be trusted.
        """
        cause = error.__cause__
        packed = self._packed.compression if self._packed else None
        cut = isinstance(cause, EOFError) or any(words in str(cause) for words in _AFTER)
        return self.members if isinstance(cause, BROKEN) and (cut or not packed) else {}

    def _one(self, entry: Entry, packed: Packed) -> tuple[str, Member]:
        uri = member_uri(packed.kind, entry.name[:MAX_NAME], self._file.uri)
        if uri in self.members:
            problem = f"{self._file.name} has two members of this name: {uri}"
            return uri, TerminalError(problem, fix=_AGAIN, code="archive_invalid")
        return uri, attempt(self._alone if packed.kind == "zip" else self._land, entry, uri)

    def _alone(self, entry: Entry, uri: str) -> FetchedFile:
        """Bring in a member whose damage says nothing of the others."""
        try:
            return self._land(entry, uri)
        except BROKEN as error:
            raise _damaged(error, f"{entry.name} in {self._file.name}") from error

    def _land(self, entry: Entry, uri: str) -> FetchedFile:
        flaw = entry.flaw or (f"a name of {len(entry.name):,} characters" if len(entry.name) > MAX_NAME else "")
        if flaw:
            raise self._not_plain(entry, flaw)
        if self._left < 0:
            raise bomb(self._file.name, self._most)
        with entry.open() as stream, IncomingFile(self._zone, uri) as raw:
            while chunk := stream.read(entry.step):
                if not raw.size and is_apple_double(entry.name, chunk):
                    raise _LitterError
                if not raw.size and (what := _archive(chunk)):
                    raise self._not_plain(entry, what)
                self._left -= len(chunk)
                if self._left < 0:
                    raise bomb(self._file.name, self._most)
                if raw.feed(chunk):
                    raw.spill()
            landed = raw.settle(None, None)
        assert isinstance(landed, FetchedFile)
        return landed

    def _not_plain(self, entry: Entry, got: str) -> TerminalError:
        problem = f"Not a plain file: {entry.name[:MAX_NAME]} in {self._file.name}"
        return TerminalError(problem, got=got, fix=_AGAIN, code="archive_invalid")


class _LitterError(Exception):
    """A member that is no file of anybody's."""


_AGAIN = "Pack it again, as plain files."


def _archive(head: bytes) -> str | None:
    """Name the kind of archive that a member is, Excel files apart."""
    what = binary(head[:512]) or ""
    return what if "archive" in what and "Excel" not in what else None


def _damaged(error: BaseException, name: str) -> TerminalError:
    return TerminalError.wrap(error, f"{name} is not whole", "Fetch it again from its producer.", code="bad_file")


def first_member(file: FetchedFile, reader: Archive, store: Store, zone: RawZone) -> FetchedFile:
    """Return the first sound member, without a look at the others.

    Args:
        file: The archive, in the raw zone.
        reader: Says which members are read.
        store: Where the archive is.
        zone: Where the member goes.

    Raises:
        IngestError: There is none.
    """
    trouble: IngestError | None = None
    unpacking = Unpacking(file, reader, store, zone)
    for _, member in unpacking:
        if isinstance(member, FetchedFile):
            return member
        trouble = trouble or member
    raise trouble or _unmatched(file, reader, unpacking.others)
