"""Servers of one's own: their buckets are made, samples put there, and a Lab works with them."""

from __future__ import annotations

import io
import json
import secrets
from pathlib import Path

import dask.dataframe as dd
import fsspec
import pandas as pd
import pytest
from support.workers import PATIENCE

from ingestlab import Lab
from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.settings import Settings, load_settings
from ingestlab.lake.storage.store import open_store
from ingestlab.stack.bootstrap import make_place, put_samples


@pytest.fixture
def names() -> tuple[str, str]:
    """Buckets that are not there yet: for a lake, and for samples."""
    word = secrets.token_hex(4)
    return f"lake-{word}", f"samples-{word}"


@pytest.fixture
def lab(redis_url, s3, names, tmp_path, script, monkeypatch) -> Lab:
    """A Lab on a Redis of one's own and two fresh buckets, which `ingestlab init` has made."""
    lake, samples = names
    options = json.dumps({"s3": s3})
    where = {"INGESTLAB_LAKE": f"s3://{lake}/deep/in/it", "INGESTLAB_SAMPLES": f"s3://{samples}"}
    for _ in range(2):
        done = script(
            "init", "--samples", INGESTLAB_STORAGE_OPTIONS=options, REDIS_URL=redis_url, **where, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
    assert "0 sets" in done.stdout, "the second time there is nothing to do"
    monkeypatch.setattr(fsspec.config, "conf", {})
    monkeypatch.setenv("INGESTLAB_STORAGE_OPTIONS", options)
    return Lab(tmp_path, redis_url=redis_url, lake=where["INGESTLAB_LAKE"], samples=where["INGESTLAB_SAMPLES"])


@pytest.mark.slow("a stack of its own")
def test_a_notebook_finds_samples_lake_and_parts_on_servers_of_ones_own(lab, names):
    files = lab.samples("bts")
    assert len(files) == 24
    assert files[0].startswith(f"s3://{names[1]}/bts/alarm-")
    assert len(pd.read_csv(files[0], on_bad_lines="skip")) > 100, "pandas knows the credentials of the settings"
    assert lab.ls() == []
    open_store(lab.settings.lake_url, lab.settings.storage_options).write("tables/a/x.parquet", b"1")
    assert (lab.ls("parquet"), lab.ls("csv")) == (["tables/a/x.parquet"], [])
    parts = lab.parts().set_index("part")["where"]
    assert parts["lake"] == lab.settings.lake_url
    assert not [name for name in parts.index if name.startswith("worker")]


@pytest.mark.slow("long work")
def test_a_notebook_reads_what_other_processes_have_written_since(lab, s3):
    """`dd.read_parquet` on a table's folder, twice with a commit between, which replaces the only part."""
    other = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False, **s3)
    folder = f"{lab.settings.lake_url}/tables/default/t"
    for rows, name in ((1, "a"), (2, "b"), (3, "c")):
        part = io.BytesIO()
        pd.DataFrame({"n": range(rows)}).to_parquet(part)
        other.pipe_file(f"{folder}/{name}.parquet", part.getvalue())
        if name != "a":
            other.rm_file(f"{folder}/{chr(ord(name) - 1)}.parquet")
        assert len(dd.read_parquet(folder)) == len(dd.read_parquet(f"{folder}/*.parquet")) == rows


@pytest.mark.slow("long work")
def test_a_set_whose_copying_was_cut_off_is_copied_again(lab, names, s3):
    store = fsspec.filesystem("s3", **s3)
    store.rm([f"{names[1]}/.copied/bts", f"{names[1]}/bts/alarm-2017-10-23-00-vn.csv"])
    assert put_samples(lab.settings) == ["bts"]
    store.invalidate_cache()
    assert len(lab.samples("bts")) == 24


def test_a_kernel_below_a_project_reads_the_projects_env_file(tmp_path, monkeypatch):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "one.py").touch()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / ".env").write_text("REDIS_HOST=of-the-project\n")
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("REDIS_HOST", raising=False)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert load_settings().redis_host == "of-the-project"
    (tmp_path / "notebooks" / ".env").write_text("REDIS_HOST=nearer\n")
    assert load_settings().redis_host == "nearer"


def test_a_local_folder_is_made(tmp_path):
    make_place(str(tmp_path / "a" / "lake"), Settings(_env_file=None))
    assert (tmp_path / "a" / "lake").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(IngestError, match="INGESTLAB_LAKE"):
        make_place(str(tmp_path / "file" / "lake"), Settings(_env_file=None))


@pytest.mark.parametrize("samples", [None, "http://127.0.0.1:1"])
def test_samples_are_put_on_an_object_store_alone(samples):
    with pytest.raises(TerminalError, match="INGESTLAB_SAMPLES"):
        put_samples(Settings(_env_file=None, samples=samples))


def test_the_embedded_stack_has_parts_and_a_lake_to_list(stack, tmp_path: Path):
    lab = Lab(stack.home)
    assert {"redis", "dask", "worker-1", "worker-2"} <= set(lab.parts()["part"])
    assert isinstance(lab.ls(), list)
