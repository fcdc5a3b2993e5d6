"""Errors survive every way between processes, with all that they say."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from ingestlab.core import errors
from ingestlab.core.errors import IngestError, TerminalError, TransientError

CLASSES = sorted(
    (c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, IngestError)), key=lambda c: c.__name__
)


def test_every_class_but_the_base_is_one_that_messages_can_name() -> None:
    assert {c.__name__ for c in CLASSES} - {"IngestError"} == set(errors._TYPES)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("fix", ["Do this.", ""])
def test_an_error_says_its_three_parts(kind: type[IngestError], fix: str) -> None:
    error = kind("a file", "a 'folder'", fix)
    assert (error.expected, error.got, error.fix) == ("a file", "a 'folder'", fix)
    assert str(error) == "expected a file; got a 'folder'" + (f". {fix}" if fix else "")


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_survives_pickle_and_copies(kind, way) -> None:
    error = kind("a file", "a folder", "Do this.")
    error.add_note("seen on the way")
    twin = way(error)
    assert type(twin) is kind
    assert (str(twin), twin.kind, twin.fix) == (str(error), error.kind, "Do this.")
    assert twin.__notes__ == ["seen on the way"]


@pytest.mark.parametrize("kind", [c for c in CLASSES if c is not IngestError])
def test_an_error_survives_json(kind: type[IngestError]) -> None:
    error = kind("ein Übel", "\U0001f4a5 a\nb", "Do this.")
    twin = IngestError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(twin) is kind
    assert twin.to_dict() == error.to_dict()


def test_every_error_is_worth_a_retry_or_not() -> None:
    assert {c.__name__: c.kind for c in CLASSES} == {
        c.__name__: "transient" if issubclass(c, TransientError) else "terminal" for c in CLASSES
    }
    assert all(issubclass(c, (TransientError, TerminalError)) for c in CLASSES if c is not IngestError)


@pytest.mark.parametrize(
    ("kind", "found"), [("transient", TransientError), ("terminal", TerminalError), (None, TerminalError)]
)
def test_an_error_of_a_class_unknown_here_comes_back_as_its_kind(kind: str | None, found: type[IngestError]) -> None:
    """A worker of a later version may say more than this one knows."""
    error = IngestError.from_dict({"type": "FutureError", "kind": kind, "expected": "a", "got": "b"})
    assert type(error) is found
    assert (error.expected, error.got, error.fix) == ("a", "b", "")


def test_a_foreign_exception_is_put_in_our_words() -> None:
    error = TransientError.wrap(ConnectionResetError(104, "reset\n  by peer"), "an answer", "Try again.")
    assert str(error) == "expected an answer; got ConnectionResetError: [Errno 104] reset by peer. Try again."
    assert error.kind == "transient"
    assert len(TerminalError.wrap(ValueError("x" * 100_000), "little").got) <= 2000
