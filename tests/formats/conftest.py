"""Every CSV text and every line of JSON of these tests is read with the compiled loops and without them."""

from __future__ import annotations

import pytest
from support import json_ways
from support.csv_ways import outcome

from ingestlab.formats.compiled import loader
from ingestlab.formats.csv import parsing, reader
from ingestlab.formats.json.reader import JsonLines


@pytest.fixture(autouse=True)
def both_ways(monkeypatch):
    if not loader.installed():
        return
    loader.warm()

    def parse(body, layout):
        assert outcome(parsing.parse, body, layout) == outcome(parsing._parse_block, body, layout)
        return parsing.parse(body, layout)

    monkeypatch.setattr(reader, "parse", parse)
    monkeypatch.setattr(JsonLines, "read_lines", json_ways.check)
