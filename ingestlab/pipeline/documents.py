"""What a user declares of documents: which collection of MongoDB has the rows of a table, and under which keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingestlab.core.errors import TerminalError

COLLECTION = r"[A-Za-z_][A-Za-z0-9_-]{0,99}"  # no dot: that parts a tenant from its collection
DATABASE = r"[A-Za-z0-9_-]{1,63}"


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Documents of MongoDB that go with the rows of a table.

    Each row is a document, with the fields of its columns and ``_ingestlab``: its table, source, row, batch and run.
    The collection is the table's own; that of another tenant than ``default`` is called ``tenant.collection``. A row
    that MongoDB cannot hold is a reject: docs/how-to/documents.md.

    Attributes:
        collection: Name of the collection; that of the table if not given.
        database: Name of the database; that of ``INGESTLAB_MONGODB_DATABASE`` if not given.
        key: Columns of which the ``_id`` is made: the value of one, or a document of several. Of several rows with
            one key, the last committed is the document. Without it, ``_id`` is made of source and row.
        raw: Whether the documents are records as the reader gave them, and not what `clean` made of them.

    Raises:
        TerminalError: One of these cannot be.

    Examples:
        >>> from ingestlab import Documents
        >>> Documents(key="order_id").key
        ('order_id',)
    """

    collection: str = ""
    database: str = ""
    key: str | Sequence[str] = ()
    raw: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.key,) if isinstance(self.key, str) else tuple(self.key))
        named = all(isinstance(name, str) and name for name in self.key)
        if not named or len(set(self.key)) < len(self.key):
            raise _invalid("Names of columns cannot be read", "different names of columns as key", repr(self.key))
        if self.collection and not re.fullmatch(COLLECTION, self.collection):
            wanted = "a collection's name of letters, digits, '_' and '-', a letter first"
            raise _invalid("The collection's name cannot be used", wanted, repr(self.collection))
        if self.database and not re.fullmatch(DATABASE, self.database):
            wanted = "a database's name of at most 63 letters, digits, '_' and '-'"
            raise _invalid("The database's name cannot be used", wanted, repr(self.database))

    def named(self, table: str) -> Documents:
        """Name the collection, as declared or after the table.

        Args:
            table: Its name.
        """
        name = self.collection or re.sub(r"[^A-Za-z0-9_-]", "_", table)
        return replace(self, collection=name if re.match(r"[A-Za-z_]", name) else f"_{name}")


def _invalid(problem: str, expected: str, got: str) -> TerminalError:
    fix = "See the documentation of ingestlab.Documents."
    return TerminalError(problem, expected=expected, got=got, fix=fix, code="pipeline_invalid")
