"""Every CSV text of these tests is read with the compiled loop and without it."""

from __future__ import annotations

import pytest
from support.csv_ways import outcome

from ingestlab.formats.csv import compiled, fast, parsing, reader


@pytest.fixture(autouse=True)
def both_ways(monkeypatch):
    if not compiled.installed():
        return
    fast.warm()

    def parse(body, layout):
        assert outcome(parsing.parse, body, layout) == outcome(parsing._parse_block, body, layout)
        return parsing.parse(body, layout)

    monkeypatch.setattr(reader, "parse", parse)
