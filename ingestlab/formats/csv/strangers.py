"""What comes under a table's name and is none: answers of servers that call an error a success, pointers, markup."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ingestlab.core.errors import TerminalError

_LFS = re.compile(r"version https://git-lfs\.github\.com/spec/")
_MARKUP = re.compile(r"<(?:\?xml\b|!doctype\b|html\b)", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][\w:.-]*(?:\s[^<>]*)?/?>", re.IGNORECASE)
_JSON = re.compile(r'\[?\s*\{\s*(?:"[^"]*"\s*:|\}|\Z)|\[\s*\]?\Z')


def check_header(header: str, names: Sequence[str], file: str) -> None:
    """Refuse a document of another kind by its first line.

    Args:
        header: The line that was taken for the names of columns.
        names: What its columns are called.
        file: Whose it is.

    Raises:
        TerminalError: It is the begin of a JSON, XML or HTML document, or of a pointer of Git LFS.
    """
    text, fix = header.strip(), "See what the producer, or the server, has sent instead of the file."
    if _LFS.match(text):
        got, fix = "a pointer of Git LFS", "Fetch the file itself, e.g. with `git lfs pull`."
    elif _MARKUP.match(text) or (len(names) == 1 and _TAG.match(text)):
        got = "markup such as XML or HTML"
    elif _JSON.match(text) and (len(names) == 1 or not _whole(names[0])):
        got, fix = "JSON", f"{fix} If it is what you want, name it .json or .jsonl, or read it with JsonLines()."
    else:
        return
    got = f"{got}, whose first line is no header: {text[:80]!r}"
    raise TerminalError(f"There is no delimited text in {file}", got=got, fix=fix, code="wrong_format")


def _whole(name: str) -> bool:
    """Tell whether a field is a JSON document: a cell of a table without header."""
    try:
        json.loads(name)
    except ValueError:
        return False
    return True
