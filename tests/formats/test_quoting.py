"""The careful scan takes what is plain from the fast one; both say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestlab.formats.common import quoting
from ingestlab.formats.common.dialects import Dialect

CELLS = st.sampled_from(["a", '"b"', '"c,d"', '"e\nf"', '"g""h"', 'x"y', '"z"w', '"open', "", ' "s"', '"q\r\n1"'])
RECORDS = st.tuples(st.lists(CELLS, min_size=2, max_size=3), st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))


@given(st.lists(RECORDS, max_size=40), st.sampled_from([0, 20, 100]))
def test_blocks_without_doubt_change_nothing(records: list[tuple[list[str], str]], size: int):
    text = "".join(",".join(cells) + end for cells, end in records).encode()

    def scanned(block: int) -> tuple[list[list[int]], tuple[int, ...]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(quoting, "_PLAIN", block)
            starts, ends, broken, _ = quoting._records(text, Dialect(), 0, len(text), 3, final=True)
        return [starts, ends], tuple(broken)

    assert scanned(size) == scanned(1 << 30)
