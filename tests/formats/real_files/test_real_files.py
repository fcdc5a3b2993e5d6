"""Every case, submitted to a stack in one batch, and read by its reader alone, whole and in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from harness import Case, Earlier, Found, all_cases, published, read_in_pieces, read_whole

from ingestlab import stack as embedded
from ingestlab.analytics.lake import Lake
from ingestlab.core.settings import Settings
from ingestlab.queue import Run, submit
from ingestlab.stack import milvus

CASES = tuple(case for case in all_cases() if milvus.installed() or "Embedding(" not in case.options)
READ = [case for case in CASES if case.by_reader]
LOADING = [case for case in CASES if case.loads]  # first: beside a broken pipeline no file goes without one
PATIENCE = 100  # seconds


class Landed:
    """All cases in one lake."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.runs: dict[str, Run] = {}

    def submit_all(self) -> None:
        """Announces all files; those that have to be there before, first."""
        for step in range(max((len(case.earlier) for case in CASES), default=0)):
            some = [(case, case.earlier[step]) for case in CASES if len(case.earlier) > step]
            runs = [self._submit(case, earlier) for case, earlier in some]
            for run in runs:
                assert run.wait(PATIENCE).count("committed") == 1, run.failures()
        for some in (LOADING, [case for case in CASES if case not in LOADING]):
            self.runs |= {case.name: self._submit(case) for case in some}
            for run in self.runs.values():
                run.wait(PATIENCE)

    def _submit(self, case: Case, earlier: Earlier | None = None) -> Run:
        file = self.folder / "files" / case.name / (earlier.file if earlier else case.file)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(earlier.data if earlier else case.data)
        text = case.pipeline(earlier)
        if text:
            whole = self.folder / f"{case.name}.py"
            whole.write_text(text)
            whole.rename(self.folder / "pipelines" / whole.name)  # at once: workers read all pipelines meanwhile
        chosen = {"pipeline": case.name} if text else {"table": case.name}
        return submit(file.as_uri(), settings=self.settings, **chosen)

    def found(self, case: Case) -> Found:
        """What became of a case."""
        lake = Lake(self.settings)
        result = self.runs[case.name].wait(PATIENCE)
        failed = [o for o in result.outcomes if o.status == "failed"]
        if failed or case.name not in result.tables:
            return Found(None, error="; ".join(str(o.exception()) for o in failed))
        rejects = lake.table(f"{case.name}__rejects")
        return published(
            lake.table(case.name).arrow(), rejects.arrow() if rejects.parts else pa.table({}), result.outcomes[0]
        )


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Landed]:
    """A stack of its own, in which all cases have been submitted."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("pipelines", "files"):
        (folder / name).mkdir()
    uri = request.getfixturevalue("milvus_lite").url if milvus.installed() else None
    wanted = Settings(home=folder / "home", pipelines=(str(folder / "pipelines"),), milvus_uri=uri)
    try:
        started = Landed(embedded.start(wanted, workers=2, dask_workers=1, detach=False, milvus=False), folder)
        started.submit_all()
        yield started
    finally:
        embedded.stop(wanted.home)


@pytest.mark.slow("real files on a stack")
@pytest.mark.timeout(400)  # the first one submits all
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_submitted(case: Case, landed: Landed):
    landed.found(case).check(case)


@pytest.mark.parametrize("case", READ, ids=lambda case: case.name)
def test_read(case: Case, tmp_path: Path):
    read_whole(case, tmp_path).check(case)


@pytest.mark.parametrize("case", READ, ids=lambda case: case.name)
def test_read_in_pieces(case: Case, tmp_path: Path):
    read_in_pieces(case, tmp_path).check(case)
