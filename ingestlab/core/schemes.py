"""What the URIs of each scheme are like, as the source that serves the scheme declares it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.plugins import load, plugins

log = logging.getLogger("ingestlab.core.schemes")


@dataclass(frozen=True, slots=True)
class Scheme:
    """Facts by which URIs of a scheme are checked, shown and named.

    Attributes:
        host: They name a host, which is checked; ``?`` and ``#`` end their path, and their parameters may be secret.
        local: They name files of the machine that reads them, which are checked.
        quoted: Their path is percent-encoded.
        known: Some source serves them.
    """

    host: bool = False
    local: bool = False
    quoted: bool = False
    known: bool = True


_UNKNOWN = Scheme(known=False)


def traits(name: str) -> Scheme:
    """Look up what URIs of a scheme, in lower case, are like."""
    _source, scheme = served().get(name, (None, _UNKNOWN))
    return scheme


def source(name: str) -> Any:
    """Look up the source that serves a scheme; None if none does."""
    return served().get(name, (None, _UNKNOWN))[0]


@cache
def served() -> Mapping[str, tuple[Any, Scheme]]:
    """Map each scheme to its source. Where two name the same, another package's serves it."""
    served: dict[str, tuple[Any, Scheme]] = {}
    for name in plugins("sources"):
        try:
            source = load("sources", name)()
        except TerminalError as error:  # one that is broken must not take the others along
            log.warning("%s", error)
        else:
            served |= {word: (source, like) for word, like in source.schemes.items()}
    return served
