"""Search: the nearest rows, of one's own tenant, by the model that made them; errors that help."""

from __future__ import annotations

import io
import pickle
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from ingestlab.analytics.embedders.registry import embed_all, fingerprint, load
from ingestlab.cli import app
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Manifest, SourceRecord, Tally
from ingestlab.core.plain_frame import one_line
from ingestlab.lake import layout
from ingestlab.lake.storage.store import open_store
from ingestlab.sinks.milvus.search import search
from ingestlab.sinks.milvus.search_result import SearchResult
from ingestlab.sinks.milvus.vector_rows import primary_keys
from ingestlab.sinks.milvus.vector_values import Collection, Column
from ingestlab.sinks.milvus.vectors import open_vectors

TEXTS = ("The cat sleeps on the sofa.", "Shares fell at the stock exchange.", "It rains in Vienna.")
QUESTION = "what is the weather like"
FUNCTION = """
from ingestlab import Csv, Embedding, Pipeline

def lengths(texts):
    return [[len(text), SECOND] for text in texts]

EMBEDDING = Embedding(source="a", model=lengths, collection="NAME")
PIPELINE = Pipeline(reader=Csv(columns={"a": "string"}), embedding=EMBEDDING)
"""


def png(shade: int = 0, size: tuple[int, int] = (20, 40)) -> bytes:
    """A light picture with a dark bar at a place of its own."""
    image = Image.new("L", size, 255)
    image.paste(40, (shade, 5, shade + 4, 35))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Shelf:
    """Collections in memory, filled by hand."""

    def __init__(self, settings) -> None:
        self.settings = settings
        self.store = open_vectors(settings)

    def fill(self, values, model="wordllama", tenant="default", name="", **payload) -> str:
        """Embeds values into a collection, a new one if none is named; gives its name."""
        name = name or f"c_{uuid.uuid4().hex[:8]}"
        embedder = load(model)
        made = Collection(
            name=name,
            fingerprint=fingerprint(embedder),
            payload=tuple(Column.of(pa.table({key: value}).schema.field(0)) for key, value in payload.items()),
        )
        self.store.ensure(made)
        vectors = embed_all(embedder, values)
        count, texts = len(values), embedder.kind == "text"
        sources = [f"http://a/{i}" for i in range(count)]
        rows = {
            "pk": primary_keys(tenant, "t", sources, range(count), [0] * count),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), embedder.dim),
            **{key: [value] * count for key, value in {"tenant": tenant, "table": "t", "run": "r"}.items()},
            "source": sources,
            "sha256": ["s"] * count,
            "row": pa.array(range(count)),
            "chunk": pa.array([0] * count),
            "text": pa.array(values if texts else [None] * count, pa.string()),
            **payload,
        }
        self.store.upsert(name, pa.table(rows))
        return name

    def search(self, *args, **named) -> SearchResult:
        return search(*args, self.settings, **named)


@pytest.fixture
def shelf(settings, tmp_path) -> Shelf:
    return Shelf(settings(milvus_uri="memory://", pipelines=(str(tmp_path),), tenants=("default", "acme")))


def test_the_nearest_row_is_first_with_all_that_belongs_to_it(shelf):
    name = shelf.fill(TEXTS, year=[2001, 2002, 2003])
    hits = shelf.search(name, QUESTION)
    assert list(hits.columns) == ["score", "year", "text", "source", "row", "chunk"]
    assert hits["text"][0] == TEXTS[2]
    assert hits.iloc[0][["year", "source", "row"]].tolist() == [2003, "http://a/2", 2]
    assert hits["score"].is_monotonic_decreasing
    expected = embed_all(load("wordllama"), [QUESTION, TEXTS[2]])
    assert hits["score"][0] == pytest.approx(expected[0] @ expected[1], abs=1e-5)


def test_a_limit_and_a_filter_leave_fewer(shelf):
    name = shelf.fill(TEXTS, year=[2001, 2002, 2003])
    assert len(shelf.search(name, QUESTION, limit=2)) == 2
    assert shelf.search(name, QUESTION, only={"year": [2001, 2002]})["year"].tolist() in ([2001, 2002], [2002, 2001])
    nothing = shelf.search(name, QUESTION, only={"year": 1999})
    assert nothing.empty
    assert list(nothing.columns) == list(shelf.search(name, QUESTION).columns)


def test_several_questions_are_asked_at_once(shelf, monkeypatch):
    monkeypatch.setattr("ingestlab.sinks.milvus.search.AT_ONCE", 4)
    name = shelf.fill(TEXTS)
    hits = shelf.search(name, [*TEXTS, QUESTION], limit=2)
    assert hits["query"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert hits.groupby("query")["text"].first().tolist() == [*TEXTS, TEXTS[2]]
    assert shelf.search(name, []).empty


def test_rows_of_another_tenant_are_never_found(shelf):
    name = shelf.fill(TEXTS[:2])
    shelf.fill(TEXTS, tenant="acme", name=name)
    assert len(shelf.search(name, QUESTION)) == 2
    assert len(shelf.search(name, QUESTION, tenant="acme")) == 3
    assert shelf.search(name, QUESTION, only={"tenant": "acme"}).empty
    with pytest.raises(TerminalError, match="'umbrella': expected one of the tenants default, acme"):
        shelf.search(name, QUESTION, tenant="umbrella")


def test_payload_that_is_named_like_the_score_is_told_from_it(shelf):
    hits = shelf.search(shelf.fill(TEXTS, score=[1.5, 2.5, 3.5]), QUESTION, limit=1)
    assert hits["score_"].tolist() == [3.5]
    assert hits["score"][0] < 1


def test_a_collection_that_is_not_there_is_told_with_those_that_are(shelf):
    name = shelf.fill(TEXTS)
    with pytest.raises(TerminalError, match=f"the collection 'nothing'; got collections: .*{name}"):
        shelf.search("nothing", QUESTION)


def test_without_milvus_the_error_says_how_to_get_one(settings):
    with pytest.raises(TerminalError, match="expected a Milvus server in MILVUS_URI"):
        search("documents", QUESTION, settings())


@pytest.mark.parametrize("limit", [0, -1, 16_385])
def test_a_limit_out_of_range_is_refused(shelf, limit):
    with pytest.raises(TerminalError, match=f"a limit from 1 to 16,384; got {limit}"):
        shelf.search(shelf.fill(TEXTS), QUESTION, limit=limit)


@pytest.mark.parametrize("query", ["", "  \n"])
def test_a_question_that_says_nothing_is_refused(shelf, query):
    with pytest.raises(TerminalError, match="Say more"):
        shelf.search(shelf.fill(TEXTS), query)


def test_texts_are_for_texts_and_images_for_images(shelf, tmp_path):
    texts, images = shelf.fill(TEXTS), shelf.fill([png(2), png(9)], model="hog")
    with pytest.raises(TerminalError, match=f"expected a text to search collection '{texts}' by; got bytes"):
        shelf.search(texts, png())
    with pytest.raises(TerminalError, match=f"expected an image to search collection '{images}' by; got str 'a bar'"):
        shelf.search(images, "a bar")
    with pytest.raises(TerminalError, match=r"no image file at .*none\.png"):
        shelf.search(images, tmp_path / "none.png")
    with pytest.raises(TerminalError, match="Not a whole image"):
        shelf.search(images, b"GIF89a")
    with pytest.raises(TerminalError, match="an image of one colour"):
        shelf.search(images, Image.new("L", (8, 8)))


def test_an_image_is_given_as_bytes_as_a_file_or_as_a_picture(shelf, tmp_path):
    name = shelf.fill([png(2), png(9), png(15)], model="hog", label=[2, 9, 15])
    (tmp_path / "a.png").write_bytes(png(9))
    for query in (png(9), bytearray(png(9)), tmp_path / "a.png", Image.open(io.BytesIO(png(9)))):
        hits = shelf.search(name, query, limit=2)
        assert list(hits.columns) == ["score", "label", "source", "row"]
        assert hits["label"][0] == 9
        assert hits["score"][0] == pytest.approx(1, abs=1e-5)


# Whose model it is


def declare(tmp_path, name: str, second: int) -> None:
    (tmp_path / "own.py").write_text(FUNCTION.replace("NAME", name).replace("SECOND", str(second)))


def fill_by_function(shelf, tmp_path) -> str:
    """A collection made by the function of a pipeline."""
    name = f"f_{uuid.uuid4().hex[:8]}"
    declare(tmp_path, name, 5)
    namespace: dict[str, object] = {}
    exec((tmp_path / "own.py").read_text(), namespace)
    return shelf.fill(["a", "bb", "c" * 30], model=namespace["lengths"], name=name)


def test_a_function_is_found_in_the_pipeline_that_embeds_with_it(shelf, tmp_path):
    name = fill_by_function(shelf, tmp_path)
    assert shelf.search(name, "x" * 30, limit=1)["text"].tolist() == ["c" * 30]


def test_a_model_that_has_changed_since_is_refused_with_both_names(shelf, tmp_path):
    name = fill_by_function(shelf, tmp_path)
    declare(tmp_path, name, 7)
    with pytest.raises(TerminalError, match=r"function:lengths \(2-d\); got function:lengths.*with other vectors"):
        shelf.search(name, "x")
    (tmp_path / "own.py").unlink()
    with pytest.raises(TerminalError, match=r"no pipeline that embeds into it\. Search where its pipeline's file is"):
        shelf.search(name, "x")
    (tmp_path / "own.py").write_text("1 / 0")
    with pytest.raises(TerminalError, match="Pipeline 'own' does not load"):
        shelf.search(name, "x")


def test_a_broken_pipeline_is_no_matter_where_the_model_is_known_by_its_name(shelf, tmp_path):
    name = shelf.fill(TEXTS)
    (tmp_path / "own.py").write_text("1 / 0")
    assert len(shelf.search(name, QUESTION)) == 3
    declare(tmp_path, name, 5)  # now another model is declared for it
    assert len(shelf.search(name, QUESTION)) == 3


# How hits look


def record(uri: str, raw: str, size: int) -> SourceRecord:
    return SourceRecord(uri=uri, sha256="s", size=size, raw=raw, tally=Tally(), run="r", batch="b")


@pytest.fixture
def pictures(shelf) -> SearchResult:
    """SearchResult whose files lie in the raw zone, but for one that is gone and one that is no image."""
    store = open_store(shelf.settings.lake_url)
    for i, data in enumerate((png(2), png(9, (400, 300)), b"no image")):
        store.write(f"raw/{i}.png", data)
    sources = tuple(record(f"http://a/{i}", f"raw/{i}.png", 9) for i in range(4))
    manifest = Manifest(
        batch="b", run="r", tenant="default", table="t", pipeline="t", code="", sequence=1, committed_at="",
        sources=sources, parts=(),
    )  # fmt: skip
    store.write(layout.manifest("default", "t", "b"), manifest.model_dump_json().encode())
    name = shelf.fill([png(2), png(9), png(12), png(16)], model="hog", note=["<b>", "b", "c", "d"])
    return shelf.search(name, png(2), limit=4)


def shown(page: str) -> list[Image.Image]:
    """The pictures in an HTML page."""
    import base64
    import re

    found = re.findall(r"<img src='data:image/png;base64,([^']+)'", page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_a_notebook_shows_the_pictures_of_the_hits(pictures):
    page = pictures._repr_html_()
    assert sorted(image.size for image in shown(page)) == [(20, 40), (64, 48)]  # never larger than a thumbnail
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_names_beside_pictures_are_escaped_and_long_tables_cut(pictures):
    evil = "<script>alert(1)</script>"
    hits = SearchResult.of(
        pictures.rename(columns={"note": evil}).set_index(pictures["note"], drop=False), pictures._gallery
    )
    page = hits._repr_html_()
    assert "&lt;script&gt;" in page
    assert not {"<script>", "<b>"} & set(page.split(">"))
    assert evil not in page
    with pd.option_context("display.max_rows", 1):
        assert len(shown(hits._repr_html_())) == 1
    with pd.option_context("display.notebook_repr_html", False):
        assert hits._repr_html_() is None


def test_hits_are_a_frame_whatever_is_done_with_them(pictures):
    two = pictures[pictures["note"].isin(["<b>", "c"])]
    assert isinstance(two, SearchResult)
    assert len(shown(two._repr_html_())) == 1
    assert len(shown(pickle.loads(pickle.dumps(pictures))._repr_html_())) == 2
    assert shown(pictures[["score", "note"]]._repr_html_()) == []
    assert isinstance(pictures, pd.DataFrame)
    assert "image" not in pictures.columns


def test_texts_are_shown_as_pandas_does_but_for_their_lines(shelf):
    hits = shelf.search(shelf.fill(TEXTS), QUESTION)
    assert "white-space:nowrap" in hits._repr_html_()
    assert hits._repr_html_() == one_line(pd.DataFrame(hits))


# The command


@pytest.mark.parametrize(
    ("args", "got"), [(["documents"], "neither"), (["documents", "words", "--image", "a.png"], "both")]
)
def test_the_command_wants_a_text_or_an_image(args, got):
    result = CliRunner().invoke(app, ["search", *args])
    assert result.exit_code == 1
    assert got in result.stderr


def test_the_command_shows_a_hit_in_two_lines(shelf, monkeypatch):
    name = shelf.fill(TEXTS, year=[2001, 2002, 2003], note=["", "[/red]", "two\nlines " * 20])
    for variable, value in {
        "MILVUS_URI": "memory://", "INGESTLAB_HOME": str(shelf.settings.home), "COLUMNS": "300"
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(app, ["search", name, QUESTION, "--limit", "3"])
    assert result.exit_code == 0, result.output
    first, text, *rest = result.stdout.splitlines()
    assert first.startswith(
        f"{np.float64(search(name, QUESTION, shelf.settings)['score'][0]):.3f}  year 2003  note two lines two"
    )
    assert first.endswith("2 row 2")
    assert text.strip() == TEXTS[2]
    assert "[/red]" in "".join(rest)
