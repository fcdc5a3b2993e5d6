r"""Checks by pattern as Python's `re` means them, whatever a column's memory is.

On Arrow memory pandas asks RE2, which takes `Müller` for no ``\w+`` and knows neither ``(?!…)`` nor ``\1``: the
same contract would reject other rows than on a column of pandas' own.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pandera.pandas import Check, Column, DataFrameSchema

_ALIKE = re.compile(r"(?:[^\\(]|\((?!\?)|\\[dw.\-/+*?()\[\]{}|^$])*")  # literals, sets, groups, \\d and \\w
_UNLIKE = re.compile(r"[*+?}]\+|\[:|\{,|\[[^\]]*\[")  # possessive, POSIX classes, {,3}, sets in sets
Test = Callable[[str], bool]


TESTS: dict[str, Callable[..., Test]] = {
    "str_matches": lambda pattern: _found(re.compile(pattern).match),
    "str_contains": lambda pattern: _found(re.compile(pattern).search),
    "str_startswith": lambda string: lambda text: text.startswith(string),
    "str_endswith": lambda string: lambda text: text.endswith(string),
}


def _found(find: Callable[[str], object]) -> Test:
    return lambda text: find(text) is not None


def ask(values: pa.ChunkedArray, test: Test) -> pa.ChunkedArray:
    """Test each different text once; nulls stay null."""
    encoded = values.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return pa.chunked_array([], pa.bool_())
    passes = pa.array([test(text) for text in encoded.chunk(0).dictionary.to_pylist()], pa.bool_())
    return pa.chunked_array([passes.take(chunk.indices) for chunk in encoded.chunks], pa.bool_())


def ask_alike(values: pa.ChunkedArray, registered: str, **said: Any) -> pa.ChunkedArray:
    """Test texts by Arrow where Python would surely agree, else by Python. Arrow is some ten times as fast.

    That is for plain patterns on texts of ASCII alone without line ends.
    """
    pattern = said.get("pattern")
    if isinstance(pattern, str) and _ALIKE.fullmatch(pattern) and not _UNLIKE.search(pattern) and _is_plain(values):
        with suppress(pa.ArrowInvalid):
            anchored = f"^(?:{pattern})" if registered == "str_matches" else pattern
            return pc.match_substring_regex(values, anchored)
    return ask(values, TESTS[registered](**said))


def _is_plain(values: pa.ChunkedArray) -> bool:
    ascii_alone = pc.all(pc.string_is_ascii(values), min_count=0).as_py() is not False
    return ascii_alone and not pc.any(pc.match_substring(values, "\n")).as_py()


def pythonic(schema: DataFrameSchema) -> DataFrameSchema:
    """Make a contract's checks by pattern ask Python; others stay."""
    own = copy.copy(schema)
    own.columns = {name: _column(column) for name, column in schema.columns.items()}
    return own


def _column(column: Column) -> Column:
    if not any(_is_ours(check) for check in column.checks):
        return column
    own = copy.copy(column)
    own.checks = [_check(check) if _is_ours(check) else check for check in column.checks]
    return own


def _is_ours(check: Check) -> bool:
    return getattr(check, "registry_name", None) in TESTS


def _check(check: Check) -> Check:
    own = copy.copy(check)
    own._check_fn = partial(_passes, registered=str(check.registry_name), **(check.statistics or {}))  # noqa: SLF001
    return own


def _passes(data: pd.Series[Any], registered: str, **said: Any) -> pd.Series[Any]:
    """Answer such a check as pandera wants it: what is no text fails."""
    test = TESTS[registered](**said)
    if isinstance(data.dtype, pd.ArrowDtype) and pa.types.is_string(data.dtype.pyarrow_dtype):
        passes = ask(pa.chunked_array(data.array.__arrow_array__()), test).fill_null(False).to_numpy()
    else:
        passes = np.fromiter((isinstance(x, str) and test(x) for x in data), np.bool_, len(data))
    return pd.Series(passes, index=data.index)
