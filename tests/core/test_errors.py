"""Errors survive every way between processes, with all that they say; every one that is raised has a known code."""

from __future__ import annotations

import ast
import copy
import importlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ingestlab
from ingestlab.core import errors
from ingestlab.core.error_codes import CODES, Code, markdown
from ingestlab.core.errors import IngestError, TerminalError, TransientError

PACKAGE = Path(ingestlab.__file__).parent
CLASSES = sorted(
    (c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, IngestError)), key=lambda c: c.__name__
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ERRORS = st.builds(
    lambda kind, problem, texts, code: kind(problem, **texts, code=code),
    st.sampled_from([c for c in CLASSES if c is not IngestError]),
    TEXTS,
    st.fixed_dictionaries({}, optional={"expected": TEXTS, "got": TEXTS, "fix": TEXTS}),
    st.none() | st.sampled_from(sorted(CODES)),
)


def test_every_class_but_the_base_is_one_that_messages_can_name() -> None:
    assert {c.__name__ for c in CLASSES} - {"IngestError"} == set(errors._TYPES)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("fix", ["Do this.", ""])
def test_an_error_says_its_parts_and_begins_with_the_problem(kind: type[IngestError], fix: str) -> None:
    error = kind("No file", expected="a file", got="a 'folder'", fix=fix)
    assert (error.problem, error.expected, error.got, error.fix) == ("No file", "a file", "a 'folder'", fix)
    assert str(error) == "No file: expected a file; got a 'folder'" + (f". {fix}" if fix else "")
    assert str(kind("No file", fix=fix)) == "No file" + (f". {fix}" if fix else "")
    assert str(kind("No file", got="a folder")) == "No file: a folder"
    assert str(kind("No file", expected="a file")) == "No file: expected a file"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("fix", ["Do this.", ""])
def test_the_form_of_the_version_before_goes_on_working(kind: type[IngestError], fix: str) -> None:
    """Pipelines and models of users raise it."""
    error = kind("a file", "a 'folder'", fix)
    assert (error.problem, error.expected, error.got, error.fix) == ("", "a file", "a 'folder'", fix)
    assert str(error) == "expected a file; got a 'folder'" + (f". {fix}" if fix else "")
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.to_dict(), str(twin)) == (error.to_dict(), str(error))
    assert kind("a file", "a folder", fix="Do that.").fix == "Do that."


@given(ERRORS)
def test_an_error_survives_pickle_copies_and_json(error: IngestError) -> None:
    error.add_note("seen on the way")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert (twin.to_dict(), str(twin), twin.kind) == (error.to_dict(), str(error), error.kind)
        assert twin.__notes__ == ["seen on the way"]
    twin = IngestError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(twin) is type(error)
    assert (twin.to_dict(), str(twin)) == (error.to_dict(), str(error))


@given(ERRORS, TEXTS)
def test_a_copy_with_another_text_keeps_the_rest(error: IngestError, text: str) -> None:
    assert error.replace(fix=text).to_dict() == {**error.to_dict(), "fix": text}
    assert error.within("Here").problem == (f"Here: {error.problem}" if error.problem else "Here")


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
    error = IngestError.from_dict({"type": "FutureError", "kind": kind, "expected": "a", "got": "b", "code": "future"})
    assert type(error) is found
    assert (error.expected, error.got, error.fix, error.code) == ("a", "b", "", "unknown")


@pytest.mark.parametrize("kind", [c for c in CLASSES if c is not IngestError])
def test_an_error_of_the_version_before_has_the_code_of_its_class(kind: type[IngestError]) -> None:
    old = {"type": kind.__name__, "kind": kind.kind, "expected": "a file", "got": "a folder", "fix": "Do this."}
    error = IngestError.from_dict(old)
    assert (type(error), error.code, str(error)) == (kind, kind.code, "expected a file; got a folder. Do this.")


def test_a_foreign_exception_is_put_in_our_words() -> None:
    error = TransientError.wrap(
        ConnectionResetError(104, "reset\n  by peer"), "No answer", "Try again.", code="http_unavailable"
    )
    assert str(error) == "No answer: ConnectionResetError: [Errno 104] reset by peer. Try again."
    assert (error.kind, error.code) == ("transient", "http_unavailable")
    assert len(TerminalError.wrap(ValueError("x" * 100_000), "Too much").got) <= 2000


@pytest.mark.parametrize("kind", [IngestError, *errors._TYPES.values()])
def test_no_reader_meets_the_name_of_a_class_of_ours(kind: type[IngestError]) -> None:
    error = TerminalError.wrap(kind("No such table", fix="Look again."), "Pipeline fails")
    shown = "\n".join([*kind("No such table")._render_traceback_(), *error._render_traceback_(), str(error)])
    assert kind.__name__ not in shown
    assert "Pipeline fails: No such table. Look again" in shown
    assert errors.in_a_line(f"{kind.__module__}.{kind.__name__}", "No such table") == "No such table"
    assert errors.in_a_line("ValueError", "no number") == "ValueError: no number"


def test_the_table_of_codes_is_the_type_of_codes() -> None:
    assert importlib.import_module("ingestlab.errors").CODES is CODES
    assert set(CODES) == set(get_args(Code))
    assert list(get_args(Code)) == sorted(get_args(Code))
    for code, explanation in CODES.items():
        assert explanation.meaning.endswith("."), code
        assert explanation.action.endswith((".", "?")), code


def test_the_page_of_codes_is_up_to_date() -> None:
    """`ingestlab errors --markdown > docs/reference/errors.md` writes it."""
    assert (PACKAGE.parent / "docs" / "reference" / "errors.md").read_text() == markdown()


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the package that makes an error."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in _OURS or (name == "wrap" and "textwrap" not in ast.unparse(node.func)):
                    yield f"{file.relative_to(PACKAGE)}:{node.lineno}", node


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for sub in kind.__subclasses__():
        yield from (sub, *_subclasses(sub))


def test_every_error_that_is_raised_has_a_code_that_is_known() -> None:
    wrong = []
    for place, call in _calls():
        name = ast.unparse(call.func).removesuffix(".wrap").rpartition(".")[2]
        kind = _OURS.get(name, IngestError)
        given = next((keyword.value for keyword in call.keywords if keyword.arg == "code"), None)
        if isinstance(given, ast.Constant):
            known = given.value in CODES
            if not known or (
                kind is not IngestError and CODES[given.value].retried != issubclass(kind, TransientError)
            ):
                wrong.append((place, given.value))
        elif given is None and not any(keyword.arg is None for keyword in call.keywords) and kind.code == "unknown":
            wrong.append((place, "no code"))
    assert "\n".join(map(str, wrong)) == ""


for _module in ("sinks.milvus.link", "core.waiting", "analytics.embedders.base", "queue.rq.job"):
    importlib.import_module(f"ingestlab.{_module}")
_OURS = {kind.__name__: kind for kind in (IngestError, *_subclasses(IngestError))}
