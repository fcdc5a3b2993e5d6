"""One pull of documents: what is asked of the server, and the pages that are made of its answers."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.core.mongodb import REFUSED, Server, connected, translated
from ingestlab.interfaces import Page, Pull
from ingestlab.sources.mongodb.order import after, exact, found, is_nan, kind_of, packed, unpacked, until
from ingestlab.sources.mongodb.text import Encoder

if TYPE_CHECKING:
    from pymongo.collection import Collection

ID = "_id"
PAGE_BYTES, PAGE_SECONDS = 4 << 20, 5.0  # a page ends with either, about
PART = 10_000  # documents that are worth a part of their own, about
TIES = 1_000  # documents with the last value of the cursor, at most, of which each is remembered
_BATCH = 2_000  # documents that the server gives at a time
_SAMPLED = 50  # documents looked at for each border between parts
_GROWS = {"number": "numbers", "string": "text", "binData": "binary", "objectId": "ObjectIds", "date": "dates"}
_GROWS |= {"timestamp": "timestamps"}  # kinds of a cursor
_LOST_CURSOR = 43
Filter = Mapping[str, Any]


@dataclass(frozen=True)
class Find:
    """What is asked of a server.

    Attributes:
        database: Its name.
        collection: Name of a collection or view.
        query: Which documents.
        projection: Which fields; None for all.
        cursor: Field that tells what is new; None for everything.
        lag: How many seconds behind the server's clock to end.
    """

    database: str
    collection: str
    query: Mapping[str, Any]
    projection: Mapping[str, Any] | Sequence[str] | None
    cursor: str | None
    lag: float

    @property
    def field(self) -> str:
        """Return the field by which documents are sorted."""
        return self.cursor or ID

    @property
    def namespace(self) -> str:
        """Return database and collection, as MongoDB writes the two."""
        return f"{self.database}.{self.collection}"


@dataclass
class Ties:
    """The documents that have the last value of the cursor.

    Attributes:
        value: The value.
        last: The greatest of their `_id`.
        ids: Each `_id`, by its text; None where they are too many.
        none: Whether there is no document yet.
    """

    value: Any = None
    last: Any = None
    ids: dict[str, Any] | None = field(default_factory=dict)
    none: bool = True

    def add(self, value: Any, identity: Any, text: str) -> None:
        """Take in the next document.

        Args:
            value: Of its cursor.
            identity: Its `_id`.
            text: The same as text.
        """
        if self.none or exact(value) != exact(self.value):
            self.ids = {}
        self.value, self.last, self.none = value, identity, False
        if self.ids is not None:
            self.ids[text] = identity
            self.ids = self.ids if len(self.ids) <= TIES else None

    def has(self, value: Any, text: str) -> bool:
        """Tell whether a document is among them.

        Args:
            value: Of its cursor.
            text: Its `_id` as text.
        """
        return self.ids is not None and text in self.ids and exact(value) == exact(self.value)


class Reading:
    """Asks a server for the documents of a pull.

    Args:
        asked: What is asked in general.
        pull: What of it is missing.
        server: Who is asked.
    """

    def __init__(self, asked: Find, pull: Pull, server: Server) -> None:
        self.source, self.pull, self.field = asked, pull, asked.field
        self.server, self.encoder = server, Encoder()
        self._lock = threading.Lock()
        self._ended = False
        self._filter: Filter | None = None  # of all that is asked
        self._kind = ""  # of the values of the cursor
        self._type: type | None = None  # of the last value
        self._batches: Iterator[bytes] | None = None
        self._waiting: deque[dict[str, Any]] = deque()  # documents of the batch that came last
        self._known = self._remembered()  # what an earlier pull has brought
        self._ties = replace(self._known, ids=None if self._known.ids is None else dict(self._known.ids))
        self._top: dict[str, str] = {}
        self._options: dict[str, Any] = {}
        self._at: tuple[Any, Any] | None = None  # cursor and _id of the last document
        if pull.resume is not None:
            value = unpacked(pull.resume["last"]) if asked.cursor else None
            self._at = value, unpacked(pull.resume[ID])
            self._ties = _ties(pull.resume, self.encoder) if asked.cursor else self._ties

    def next(self) -> Page | None:
        """Return the next page; None after the last."""
        with self._lock, translated(self.server, "find documents"):
            if self._filter is None and not self._ended:
                self._begin()
            return None if self._ended else self._page()

    def close(self) -> None:
        """Let go of the server's cursor."""
        with self._lock:
            self._ended = True
            if self._batches is not None:
                self._batches.close()  # type: ignore[attr-defined]

    def ranges(self, parts: int) -> Sequence[Pull]:
        """Divide the pull.

        Args:
            parts: Into how many, at most.
        """
        with self._lock, translated(self.server, "divide documents"):
            self._begin()
            borders = [] if self._ended else self._borders(min(parts, self._count() // PART))
        if not borders:
            return [self.pull]
        words = [self._word(border) for border in borders]
        first: list[dict[str, str]] = [{}, *({"after": word} for word in words)]
        last: list[dict[str, str]] = [*({"until": word} for word in words), self._top]
        window = {**(self.pull.window or {}), "kind": self._top.get("kind", "any")}
        return [replace(self.pull, window={**window, **a, **b}) for a, b in zip(first, last, strict=True)]

    def _begin(self) -> None:
        """Look at what there is, and decide what is asked."""
        self._stored = self._collection()
        window = self.pull.window or {}
        kind = window.get("kind", "")  # a part knows what the whole has found
        if not kind and (self.source.cursor or window):
            first, last = self._end(1), self._end(-1)
            if first is None or last is None:
                self._ended = True
                return
            kind = kind_of(found(first, self.field))
            if self.source.cursor:
                self._check_cursor(first)
                self._check_cursor(last)
                self._top = {"kind": kind, **self._topmost(found(last, self.field))}
            elif window:
                self._top = {"kind": kind}
        self._kind = self._kind or (kind if self.source.cursor else "")
        self._filter = {"$and": [dict(self.source.query), *self._bounds(kind)]}

    def _collection(self) -> Collection[Any]:
        """Find the collection or view.

        Raises:
            TerminalError: There is none.
        """
        concern, options = needed("pymongo.read_concern", "mongodb", "MongoDB"), self.encoder.options
        database = connected(self.server)[self.source.database]
        self._options = self._listed(database)
        concern = concern.ReadConcern("majority")
        return database.get_collection(self.source.collection, codec_options=options, read_concern=concern)

    def _listed(self, database: Any) -> dict[str, Any]:
        """Read what the server knows of the collection: whether it is a view, and how it compares text."""
        errors, name = needed("pymongo.errors", "mongodb", "MongoDB"), self.source.collection
        try:
            there = {each["name"]: each for each in database.list_collections(authorizedCollections=True)}
        except errors.OperationFailure as error:
            if error.code in REFUSED and error.code != 18:  # it may be read, but not listed
                return {}
            raise
        if name in there:
            return dict(there[name])
        names = sorted(each for each in there if not each.startswith("system."))
        raise TerminalError(
            f"There is no collection '{name}' in the database '{self.source.database}' at {self.server.shown}",
            expected="a collection or view",
            got=f"{', '.join(names[:10])}{', …' * (len(names) > 10)}" if names else "a database without any",
            fix="Correct the names in Mongo, or the server's address; a name of other letters is another one.",
            code="collection_unknown",
        )

    def _end(self, direction: int) -> dict[str, Any] | None:
        """Find the first or the last document of all that are meant."""
        fields = {ID: 1, self.field: 1}
        order = [(name, direction) for name in self._names]
        found = self._stored.find(dict(self.source.query), fields, sort=order, limit=1, **self._how())
        return next(iter(found), None)

    @property
    def _names(self) -> list[str]:
        """Name the fields by which documents are sorted."""
        return list(dict.fromkeys([self.field, ID]))

    def _how(self) -> dict[str, Any]:
        """Say how the server sorts: by letters as they are, and with its disk where there may be no index."""
        view = self._options.get("type") == "view"
        how: dict[str, Any] = {"allow_disk_use": True} if view or self.source.cursor else {}
        if not view and "collation" in self._options.get("options", {}):
            how["collation"] = needed("pymongo.collation", "mongodb", "MongoDB").Collation("simple")
        return how

    def _check_cursor(self, document: Mapping[str, Any]) -> None:
        """Refuse a document whose cursor is not like those of the others.

        Raises:
            TerminalError: It is missing, of another type, or no value that grows.
        """
        value = found(document, self.field)
        kind = kind_of(value)
        self._kind = self._kind or (kind_of(self._known.value) if not self._known.none else kind)
        if kind == self._kind and kind in _GROWS and not is_nan(value):
            return
        got = "null, or no such field" if value is None else "NaN" if is_nan(value) else f"a value of type {kind}"
        wanted = (
            f"{_GROWS[self._kind]}, as in other documents" if self._kind in _GROWS else "one type of value that grows"
        )
        raise TerminalError(
            f"A document of {self.source.namespace} has no cursor by which a pull can go on",
            expected=f"in '{self.field}' {wanted}",
            got=f"{got}, in the document with _id {self._shown(document)}",
            fix="Leave it out by Mongo.query, give it a value, or take another cursor: nothing is published.",
            code="cursor_invalid",
        )

    def _shown(self, document: Mapping[str, Any]) -> str:
        return self.encoder.value(document.get(ID))[:200]

    def _topmost(self, high: Any) -> dict[str, str]:
        """Say up to where documents are read, if new ones come meanwhile."""
        if not self.source.lag:
            return {"until": self._word(high)}
        clock = self._stored.database.client.admin.command("hello")["localTime"].replace(tzinfo=UTC)
        bson, bound = needed("bson", "mongodb", "MongoDB"), clock - timedelta(seconds=self.source.lag)
        if self._kind not in {"objectId", "date", "timestamp"}:
            raise TerminalError(
                "A lag needs a cursor that is a time",
                expected=f"dates, timestamps or ObjectIds in '{self.field}' of {self.source.namespace}",
                got=_GROWS[self._kind],
                fix="Leave the lag out, or take another cursor.",
                code="cursor_invalid",
            )
        made = {
            "objectId": lambda: bson.ObjectId.from_datetime(bound),
            "date": lambda: bson.DatetimeMS(int(bound.timestamp() * 1000)),
            "timestamp": lambda: bson.Timestamp(int(bound.timestamp()), 0),
        }
        return {"before": self._word(made[self._kind]())}

    def _bounds(self, kind: str) -> list[Filter]:
        """Say what of the collection is asked, beside the query."""
        name, window = self.field, dict(self.pull.window or {})
        if not {"after", "until", "before"} & window.keys():
            window |= self._top
        bounds: list[Filter] = []
        for word, operator in (("from", "$gte"), ("to", "$lt")):
            if word in window:
                bounds.append({name: {operator: bound_of(window[word], kind, name)}})
        if "before" in window:
            bounds.append({name: {"$lt": unpacked(json.loads(window["before"]))}})
        for word, operator, general in (("after", "$gt", after), ("until", "$lte", until)):
            if word in window:
                value = unpacked(json.loads(window[word]))
                bounds.append({name: {operator: value}} if self.source.cursor else general(name, value))
        if not self._known.none:
            by_id = name == ID or self._known.ids is None
            last = self._behind((self._known.value, self._known.last))
            bounds.append(last if by_id else {name: {"$gte": self._known.value}})
        return bounds

    def _behind(self, place: tuple[Any, Any]) -> Filter:
        """Find the documents that are sorted behind one."""
        value, identity = place
        if self.field == ID:
            return {ID: {"$gt": identity}} if self.source.cursor else after(ID, identity)
        return {"$or": [{self.field: {"$gt": value}}, {"$and": [{self.field: value}, after(ID, identity)]}]}

    def _open(self) -> None:
        """Ask for what is missing."""
        assert self._filter is not None
        asked = self._filter if self._at is None else {"$and": [self._filter, self._behind(self._at)]}
        fields, order = self.source.projection or None, [(name, 1) for name in self._names]
        self._batches = self._stored.find_raw_batches(asked, fields, sort=order, batch_size=_BATCH, **self._how())

    def _fill(self) -> bool:
        """Wait for documents. False where there are no more."""
        errors, lost = needed("pymongo.errors", "mongodb", "MongoDB"), False
        while not self._waiting:
            if self._batches is None:
                self._open()
            assert self._batches is not None
            try:
                batch = next(self._batches)
            except StopIteration:
                return False
            except errors.OperationFailure as error:
                if error.code != _LOST_CURSOR or lost:  # the server has waited too long, or was started again
                    raise
                lost, self._batches = True, None
                continue
            self._waiting.extend(d for d in self.encoder.decoded(batch) if not self._is_known(d))
        return True

    def _is_known(self, document: Mapping[str, Any]) -> bool:
        """Tell whether an earlier pull has brought a document."""
        if not self._known.ids or self.field == ID:
            return False
        return self._known.has(found(document, self.field), self.encoder.value(document.get(ID)))

    def _page(self) -> Page | None:
        lines, size, begun, before = list[bytes](), 0, time.monotonic(), self._at
        line, cursor = self.encoder.line, self.source.cursor
        while size < PAGE_BYTES and (not lines or time.monotonic() - begun < PAGE_SECONDS) and self._fill():
            while self._waiting and size < PAGE_BYTES:
                document = self._waiting.popleft()
                text = line(document)
                lines.append(text)
                size += len(text)
                self._note(document, cursor)
        self._ended = not self._fill()
        if not lines:
            return None
        place = self._noted()
        return Page(
            lines=b"".join(lines),
            rows=len(lines),
            request=self._request(before),
            resume=None if self._ended else place,
            cursor=place if cursor else None,
        )

    def _note(self, document: Mapping[str, Any], cursor: str | None) -> None:
        """Remember where the pull is."""
        identity = document.get(ID)
        if ID not in document:
            raise TerminalError(
                f"A document of {self.source.namespace} has no _id",
                expected="an _id in each document: a pull goes on behind it",
                got=f"fields {', '.join(list(document)[:10])}",
                fix="Let the view keep _id.",
                code="cursor_invalid",
            )
        if not cursor:
            self._at = None, identity
            return
        value = found(document, cursor)
        if type(value) is not self._type:
            self._check_cursor(document)
            self._type = None if isinstance(value, float) else type(value)  # of floats each may be NaN
        self._at = value, identity
        if cursor == ID:
            self._ties.value, self._ties.last, self._ties.none = value, identity, False
        else:
            self._ties.add(value, identity, self.encoder.value(identity))

    def _noted(self) -> dict[str, Any]:
        """Say where the pull is: the place behind which it goes on, and what it has of the last value."""
        assert self._at is not None
        value, identity = self._at
        place = {ID: packed(identity, self.encoder)}
        if self.source.cursor:
            place |= {"field": self.field, "last": packed(value, self.encoder)}
        if self.source.cursor not in (None, ID) and self._ties.ids is not None:
            place["ids"] = [packed(each, self.encoder) for each in self._ties.ids.values()]
        return place

    def _remembered(self) -> Ties:
        """Read the documents that have the last value: of this pull's pages, else of the last commit."""
        known = self.pull.cursor
        if known is None:
            return Ties()
        if known.get("field") != self.field:
            raise TerminalError(
                f"The cursor of {self.source.namespace} is another field",
                expected=f"'{known.get('field')}', by which the last pull has ended",
                got=f"cursor='{self.field}'",
                fix="Take it back, or begin again: `ingestlab submit --force`, or `ingestlab delete` and submit.",
                code="cursor_invalid",
            )
        return _ties(known, self.encoder)

    def _count(self) -> int:
        """Estimate how many documents there are."""
        errors = needed("pymongo.errors", "mongodb", "MongoDB")
        try:
            return int(self._stored.estimated_document_count())
        except errors.OperationFailure:  # of some views it cannot be told
            return int(self._stored.count_documents({}))

    def _borders(self, parts: int) -> list[Any]:
        """Choose values between parts of about equal size.

        For all of a collection they are the same as long as it is: every so-and-so-many-th document. Of what is new
        they are those of a sample, which the server sorts.
        """
        if parts < 2 or self._filter is None:
            return []
        if not self.source.cursor:
            return self._steps(parts)
        fields: list[Filter] = [{"$match": self._filter}, {"$project": {self.field: 1}}]
        fields += [{"$sample": {"size": parts * _SAMPLED}}, {"$sort": {self.field: 1}}]
        how = {name: value for name, value in self._how().items() if name == "collation"}
        sample = list(self._stored.aggregate(fields, allowDiskUse=True, **how))
        values = [found(each, self.field) for each in sample[_SAMPLED::_SAMPLED]]
        return list({self._word(value): value for value in values}.values())

    def _steps(self, parts: int) -> list[Any]:
        step, borders = -(-self._count() // parts), list[Any]()
        for _ in range(parts - 1):
            behind = [self._behind((None, borders[-1]))] if borders else []
            how = {"sort": [(ID, 1)], "skip": step - 1, "limit": 1, **self._how()}
            found = next(iter(self._stored.find({"$and": [self._filter, *behind]}, {ID: 1}, **how)), None)
            if found is None or ID not in found:
                break
            borders.append(found[ID])
        return borders

    def _word(self, value: Any) -> str:
        return self.encoder.value(value)

    def _request(self, before: tuple[Any, Any] | None) -> str:
        asked = f"find {self.source.namespace} by {self.field}"
        return asked if before is None else f"{asked}, after {self.encoder.value(before[self.field == ID])[:100]}"


def bound_of(text: str, kind: str, name: str) -> Any:
    """Read a bound of a window as a value of the field.

    Args:
        text: Of the bound.
        kind: Of the field's values.
        name: Of the field.

    Raises:
        TerminalError: It is none.
    """
    bson = needed("bson", "mongodb", "MongoDB")
    read: dict[str, Callable[[], Any]] = {
        "objectId": lambda: (
            bson.ObjectId(text) if bson.ObjectId.is_valid(text) else bson.ObjectId.from_datetime(_time(text))
        ),
        "date": lambda: _time(text),
        "timestamp": lambda: bson.Timestamp(_time(text), 0),
        "number": lambda: int(text) if text.lstrip("-").isdigit() else float(text),
        "string": lambda: text,
    }
    try:
        return read[kind]()
    except (KeyError, ValueError, OverflowError):
        raise TerminalError(
            f"The window's bound cannot be compared with '{name}'",
            expected=f"{_GROWS.get(kind, 'times, numbers or text')}, or an ISO time",
            got=repr(text),
            fix="Correct ?from=…&to=…",
            code="uri_invalid",
        ) from None


def _time(text: str) -> datetime:
    time_ = datetime.fromisoformat(text)
    return time_ if time_.tzinfo else time_.replace(tzinfo=UTC)


def _ties(place: Mapping[str, Any], encoder: Encoder) -> Ties:
    ids = [unpacked(each) for each in place["ids"]] if "ids" in place else None
    named = None if ids is None else {encoder.value(each): each for each in ids}
    return Ties(unpacked(place["last"]), unpacked(place[ID]), named, none=False)
