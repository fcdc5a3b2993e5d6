"""Finding pipelines by name, by file name and in installed packages, and running what is in them."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ingestlab.core.errors import TerminalError
from ingestlab.core.plugins import installed
from ingestlab.core.settings import Settings
from ingestlab.pipeline import catalog
from ingestlab.pipeline.catalog import Catalog, PipelineSource, generic, load

Shelf = Callable[..., Catalog]


def declared(extra: str = "") -> str:
    return f"from ingestlab import Csv, Pipeline\n\nPIPELINE = Pipeline(reader=Csv(), {extra})\n"


def source(text: str, name: str = "p") -> PipelineSource:
    return PipelineSource(name=name, origin=f"/some/where/{name}.py", text=text)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Writes pipeline files, and reads the catalog: ``shelf({"a": TEXT}, {"b": TEXT})``, a dict for each folder."""

    def read(*folders: Mapping[str, str | bytes]) -> Catalog:
        paths = []
        for i, files in enumerate(folders):
            folder = tmp_path / f"folder{i}"
            folder.mkdir(exist_ok=True)
            paths.append(str(folder))
            for name, text in files.items():
                (folder / f"{name}.py").write_bytes(text.encode() if isinstance(text, str) else text)
        return Catalog.read(Settings(pipelines=tuple(paths)))

    return read


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts an installed package on the path: modules, and the entry points that its metadata names."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    installed.cache_clear()

    def make(modules: Mapping[str, str], points: Mapping[str, str]) -> None:
        info = site / "shelfware-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelfware\nVersion: 1.0\n")
        lines = "".join(f"{name} = {module}\n" for name, module in points.items())
        (info / "entry_points.txt").write_text(f"[{catalog.ENTRY_POINTS}]\n{lines}")
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)

    yield make
    installed.cache_clear()


def test_a_pipeline_is_known_by_the_name_of_its_file(shelf: Shelf) -> None:
    found = shelf({"alarms": declared(), "_shared": "x = 1", "notes": declared("table='papers'")})
    assert sorted(found.sources) == ["alarms", "notes"]
    assert (load(found.named("alarms")).name, load(found.named("alarms")).table) == ("alarms", "alarms")
    assert (load(found.named("notes")).name, load(found.named("notes")).table) == ("notes", "papers")


def test_the_first_folder_counts(shelf: Shelf) -> None:
    found = shelf({"a": declared("description='first'")}, {"a": declared("description='second'"), "b": declared()})
    assert load(found.named("a")).description == "first"
    assert load(found.named("b")).name == "b"


def test_a_folder_that_is_not_there_has_no_pipelines() -> None:
    assert Catalog.read(Settings(pipelines=("/no/such/folder",))).sources == {}


def test_an_unknown_name_is_told_which_there_are(shelf: Shelf) -> None:
    with pytest.raises(TerminalError, match=r"folder0 \(a, b\); got 'c'.*INGESTLAB_PIPELINES"):
        shelf({"b": declared(), "a": declared()}).named("c")
    with pytest.raises(TerminalError, match="there is none"):
        shelf({}, {}).__class__({}, ("x",)).named("c")


def test_an_installed_package_may_bring_pipelines(shelf: Shelf, install: Callable[..., None]) -> None:
    install(
        {"shelf_alarms": declared("description='installed'")}, {"alarms": "shelf_alarms", "a": "shelf_alarms:PIPELINE"}
    )
    found = shelf({"a": declared("description='of the folder'")})
    assert load(found.named("alarms")).description == "installed"
    assert load(found.named("a")).description == "of the folder"
    assert "shelf_alarms" not in sys.modules, "it is read, not imported: an edited file takes effect"


def test_a_package_that_is_broken_harms_nobody_else(shelf: Shelf, install: Callable[..., None]) -> None:
    install({"shelf_ok": declared()}, {"ok": "shelf_ok", "gone": "shelf_gone", "gone2": "shelf_gone.inner"})
    found = shelf({"a": declared()})
    assert load(found.named("ok"))
    assert load(found.named("a"))
    for name in ("gone", "gone2"):
        with pytest.raises(TerminalError, match=f"Pipeline '{name}' does not load from.*shelf_gone"):
            load(found.named(name))


def test_an_edited_file_takes_effect(shelf: Shelf) -> None:
    before = shelf({"a": declared("description='old'")}).named("a")
    after = shelf({"a": declared("description='new'")}).named("a")
    assert (load(before).description, load(after).description) == ("old", "new")
    assert before.sha256 != after.sha256
    assert load(shelf({"a": declared("description='old'")}).named("a")) is load(before)


def test_a_source_survives_the_way_to_a_dask_worker(shelf: Shelf) -> None:
    code = shelf({"a": declared("description='ü'")}).named("a")
    assert PipelineSource.from_dict(code.to_dict()) == pickle.loads(pickle.dumps(code)) == code


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "import nothing_like_it\n",
            "ModuleNotFoundError: No module named 'nothing_like_it', in /some/where/p.py, line 1",
        ),
        ("x = 1\ndef f():\n    return y\nf()\n", "NameError: name 'y' is not defined, in /some/where/p.py, line 3"),
        ("x = 1\nif x\n", "SyntaxError: expected ':', in /some/where/p.py, line 2"),
        ("x = 1\n  y = 2\n", "IndentationError: unexpected indent, in /some/where/p.py, line 2"),
        (
            "\n\nfrom ingestlab import Csv\nCsv(columns={})\n",
            "from /some/where/p.py, in /some/where/p.py, line 4: No columns are declared: none at all. Declare some",
        ),
        ("\nraise SystemExit('bye')\n", "SystemExit: bye, in /some/where/p.py, line 2"),
        ("x = '\0'\n", "source code string cannot contain null bytes"),
        (b"x = '\xff'\n", "can't decode byte 0xff"),
        ("x = 1\n", "PIPELINE = Pipeline(...) in /some/where/p.py; got NoneType"),
        ("PIPELINE = 42\n", "PIPELINE = Pipeline(...) in /some/where/p.py; got int"),
        (declared("table='no/such'"), "a table name of letters"),
        (declared("partition_by=['day', '_row']"), "columns of letters, digits and '_', a letter first"),
        (declared("partition_by='a/b'"), "got 'a/b'"),
    ],
)
def test_a_broken_file_says_where_it_is_broken(shelf: Shelf, text: str | bytes, says: str) -> None:
    found = shelf({"p": text, "fine": declared()})
    code = found.named("p")
    with pytest.raises(TerminalError) as caught:
        load(code.model_copy(update={"origin": "/some/where/p.py"}))
    assert says in str(caught.value)
    assert load(found.named("fine"))


def test_a_traceback_shows_the_lines_of_a_pipeline() -> None:
    text = "from ingestlab import Csv, Pipeline\n\ndef clean(df):\n    return df['a'] + wrong_name  # here\n\n"
    clean = load(source(text + "PIPELINE = Pipeline(reader=Csv(), clean=clean)\n")).clean
    assert clean
    with pytest.raises(NameError) as caught:
        clean({"a": 1})
    shown = "".join(traceback.format_exception(caught.value))
    assert "return df['a'] + wrong_name  # here" in shown
    assert "/some/where/p.py" in shown
    assert "line 4, in clean" in shown


def test_classes_of_a_pipeline_find_their_module() -> None:
    text = declared().replace("\n\n", "\nimport dataclasses\n@dataclasses.dataclass\nclass A:\n    x: 'int' = 1\n", 1)
    load(source(text, "odd-name.v2"))


def test_a_file_goes_to_the_pipeline_that_matches_its_name(shelf: Shelf) -> None:
    found = shelf({"alarms": declared("matches=['alarm-*.csv*']"), "other": declared("matches=('*.TXT', 'x?')")})
    for name in ("alarm-1.csv", "ALARM-1.CSV", "alarm-2.csv.gz"):
        assert found.matching(name, "t").name == "alarms"
    for name in ("a.txt", "x1"):
        assert found.matching(name, "t").name == "other"


def test_two_pipelines_for_one_file_are_an_error(shelf: Shelf) -> None:
    found = shelf({"a": declared("matches=['x*.csv']"), "b": declared("matches=['*1.csv']")})
    with pytest.raises(TerminalError, match=r"one pipeline that matches x1\.csv; got 2: a, b\. Name one"):
        found.matching("x1.csv", "t")
    assert found.matching("x2.csv", "t").name == "a"


def test_a_broken_pipeline_does_not_stop_the_others_from_matching(shelf: Shelf) -> None:
    found = shelf({"broken": "1 / 0", "a": declared("matches=['x*.csv']")})
    assert found.matching("x1.csv", "t").name == "a"


@pytest.mark.parametrize(
    "text",
    [
        declared("matches=['y*.csv'], nonsense=1"),
        declared("matches=['y.csv'], nonsense=1"),
        "text = 'it is'; matches = ['{of}.csv'.format(of=1 / 0)]",
        declared("matches=PATTERNS"),
        declared("matches=[*PATTERNS, 'x.csv']"),
        "PIPELINE = Pipeline(matches=('y*.csv'",
        b"\xff",
    ],
    ids=["pattern", "name", "format", "variable", "list", "syntax", "unreadable"],
)
def test_a_file_that_may_be_meant_for_a_broken_pipeline_goes_nowhere(shelf: Shelf, text: str | bytes) -> None:
    with pytest.raises(TerminalError, match="Pipeline 'broken' does not load"):
        shelf({"broken": text}).matching("y.csv", "inbox")


def test_a_file_of_the_kind_that_a_broken_pipeline_is_named_after_goes_nowhere(shelf: Shelf) -> None:
    found = shelf({"orders": "1 / 0"})
    with pytest.raises(TerminalError, match="Pipeline 'orders' does not load"):
        found.matching("Orders-2026-11.csv.gz", "inbox")


def test_a_broken_pipeline_for_other_files_stops_none(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    found = shelf({"broken": declared("matches=['x*.csv', \"z-*.csv\"], nonsense=1")})
    assert found.matching("y.csv", "inbox").origin == "generic.csv"
    (warning,) = caplog.messages
    assert "Pipeline 'broken' does not load from" in warning
    assert "types inferred" in warning
    assert found.matching("y2.csv", "inbox").origin == "generic.csv"
    assert len(caplog.messages) == 1, "for thousands of files it is said once"


def test_of_several_broken_pipelines_the_one_that_names_such_files_is_blamed(shelf: Shelf) -> None:
    mine = declared("matches=['orders-*.csv'], nonsense=1")
    found = shelf({"a_broken": "1 / 0", "orders": mine, "z_broken": "1 / 0"})
    with pytest.raises(TerminalError, match="Pipeline 'orders'"):
        found.matching("Orders-7.csv", "inbox")


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz", "a.b.csv.zst", "a.csv.bz2", "a.tsv", "A.TSV.XZ"])
def test_a_file_that_none_matches_is_read_as_its_format_says(shelf: Shelf, name: str) -> None:
    code = shelf({"other": declared("matches=['x']")}).matching(name, "inbox")
    pipeline = load(code)
    assert (pipeline.name, pipeline.table, pipeline.contract) == ("inbox", "inbox", None)
    assert pipeline.reader.delimiter is None, "it is found in the file"  # type: ignore[attr-defined]
    assert code.origin.startswith("generic")


@pytest.mark.parametrize("name", ["a.orc", "a", "csv", "a.gz", "a.csv.bak"])
def test_an_unknown_format_is_an_error_that_names_the_known_ones(name: str) -> None:
    with pytest.raises(TerminalError, match=rf"\.csv, \.tsv, .*\); got '{name}'.*--pipeline"):
        generic(name, "t")


@pytest.mark.parametrize("name", ["a.csv.zip", "a.tar.gz", "A.TGZ"])
def test_an_archive_is_an_error_that_names_its_reader(name: str) -> None:
    with pytest.raises(TerminalError, match=rf"the archive '{name}'.*Archive\(reader=.*--pipeline"):
        generic(name, "t")


@pytest.mark.parametrize("table", ["../x", "a/b", "a__rejects", ".hidden", ""])
def test_a_table_that_would_lie_in_anothers_folder_is_refused(shelf: Shelf, table: str) -> None:
    source = shelf({"a": declared(f"table={table!r}")}).named("a")
    if table:
        with pytest.raises(TerminalError, match="table name"):
            load(source)
    else:
        assert load(source).table == "a"


def test_a_broken_pipeline_is_run_once_for_thousands_of_files(shelf: Shelf, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    broken = f"with open({str(ran)!r}, 'a') as file:\n    file.write('x')\nraise ValueError('not yet')  # matches=TWO\n"
    found = shelf({"broken": broken, "good": declared("matches=['Good-*.csv', 'better-?.CSV']")})
    for name in ("good-1.csv", "GOOD-2.csv", "better-1.csv"):
        assert found.matching(name, "t").name == "good"
    with pytest.raises(TerminalError, match="not yet"):
        found.matching("better-12.csv", "t")
    assert ran.read_text() == "x"
