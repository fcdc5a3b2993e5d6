"""What a notebook says when a cell is run before those that it needs."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

from ingestlab.core.errors import IngestError, did_you_mean
from ingestlab.notebook import page

FIX = 'Run the cells above first: menu Run, "Run All Above Selected Cell". A restarted kernel has forgotten them all.'


def explain_missing_names() -> None:
    """Explain names without value in a notebook, with a fix."""
    shell = page.shell()
    if shell is not None:
        shell.set_custom_exc((NameError,), _show)


def missing(error: NameError, known: dict[str, Any]) -> IngestError:
    """Translate a NameError.

    Args:
        error: As Python raised it.
        known: The names that cells have given a value.
    """
    names = [name for name in known if not name.startswith("_")]
    name = str(error.name)
    return IngestError(
        f"No cell that has run gives {name!r} a value", fix=did_you_mean(name, names, FIX), code="argument_invalid"
    )


def _show(shell: Any, kind: type[NameError], error: NameError, trace: TracebackType, tb_offset: int | None) -> None:
    """Show a NameError of a cell. IPython calls this; other errors are shown as ever."""
    *_, (frame, _line) = traceback.walk_tb(trace)
    if kind is NameError and frame.f_globals is shell.user_ns:  # a local one has no cell to blame
        *lines, _code = missing(error, shell.user_ns)._render_traceback_()
        error._render_traceback_ = lambda: [f"NameError: {error}", *lines]  # type: ignore[attr-defined]
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
