"""Today's build beside an earlier one, in turns: what has become faster, and by how much."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measures import Measure

HERE = Path(__file__).parent
COMMIT = "888091a"  # the last one before the typed loop for CSV
FASTER, LEANER = 2.0, 0.8  # the big file: times as fast, and the share of memory
CHEAPER, UNCHANGED = 0.65, 0.7  # of the processor time of a small file
Answer = Mapping[str, Any]


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """The big file and the small ones, by both builds."""
    home.mkdir(parents=True, exist_ok=True)
    with _earlier(options.before, home) as earlier:
        if earlier is None:
            yield Measure("the build before", None, "s", details={"absent": f"no commit {options.before} here"})
            return
        builds = (earlier, (sys.executable, HERE))
        yield from _big(_rounds("big", builds, options, home), options)
        yield from _files(_rounds("files", builds, options, home), options)


@contextmanager
def _earlier(commit: str, home: Path) -> Iterator[tuple[str, Path] | None]:
    """Checks an earlier commit out, with an environment of its own that has today's packages."""
    tree, git = home / "tree", ("git", "-C", str(HERE))
    made = subprocess.run([*git, "worktree", "add", "--detach", str(tree), commit], capture_output=True, check=False)
    if made.returncode:
        yield None
        return
    try:
        env = home / "env"
        venv.create(env, symlinks=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(env), "platbase": str(env)}))
        paths = [str(tree), *(path for path in sys.path if path.endswith("site-packages"))]
        (packages / "earlier.pth").write_text("\n".join(paths) + "\n")
        yield str(env / "bin" / "python"), tree / "benchmarks"
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(tree)], capture_output=True, check=False)


def _rounds(
    group: str, builds: Sequence[tuple[str, Path]], options: argparse.Namespace, home: Path
) -> list[tuple[Answer, ...]]:
    """Both builds in turn, round after round; each keeps its stack meanwhile."""
    found = []
    told = json.dumps({name: value for name, value in vars(options).items() if name != "began"}, default=str)
    with (
        _process(builds[0], group, home / f"{group}-before", told) as before,
        _process(builds[1], group, home / f"{group}-now", told) as now,
    ):
        for n in range(options.rounds):
            order = (before, now) if n % 2 == 0 else (now, before)
            answers = {id(one): _ask(one, str(n)) for one in order}
            found.append((answers[id(before)], answers[id(now)]))
    return found


@contextmanager
def _process(build: tuple[str, Path], group: str, home: Path, told: str) -> Iterator[subprocess.Popen[str]]:
    python, folder = build
    command = [python, str(HERE / "one_build.py"), str(folder), group, str(home), told]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # in the build's own folder, since what a stack starts by ``python -m`` looks there first
    with subprocess.Popen(command, cwd=folder.parent, **pipes) as popen:
        try:
            _answer(popen)
            yield popen
        finally:
            assert popen.stdin is not None
            popen.stdin.close()  # it ends at the end of its input


def _ask(popen: subprocess.Popen[str], line: str) -> Answer:
    assert popen.stdin is not None
    popen.stdin.write(line + "\n")
    popen.stdin.flush()
    return _answer(popen)


def _answer(popen: subprocess.Popen[str]) -> Answer:
    assert popen.stdout is not None
    line = popen.stdout.readline()
    if not line:
        raise SystemExit("a build has failed: see above")
    answer: Answer = json.loads(line)
    return answer


def _big(rounds: Sequence[tuple[Answer, ...]], options: argparse.Namespace) -> Iterator[Measure]:
    megabytes = options.copies * 31
    for name, place in (("the build before", 0), ("today's", 1)):
        answers = sorted((pair[place] for pair in rounds), key=lambda one: one["seconds"])
        middle = answers[(len(answers) - 1) // 2]
        details = {
            "cpu_s": round(statistics.median(one["cpu"] for one in answers), 2),
            "peak_mb": round(max(one["peak_mb"] for one in answers)),
            "stages": middle["stages"],
            "steps": middle["steps"],
            "rounds": [round(one["seconds"], 2) for one in answers],
        }
        yield Measure(f"about {megabytes} MB, {name}", round(middle["seconds"], 2), "s", details=details)
    yield _ratio("  times as fast as before", rounds, "seconds", FASTER, "least")
    yield _ratio("  processor time, of that before", rounds, "cpu", None, "most")
    yield _ratio("  memory of a Dask worker, of that before", rounds, "peak_mb", LEANER, "most")


def _files(rounds: Sequence[tuple[Answer, ...]], options: argparse.Namespace) -> Iterator[Measure]:
    targets = {"clean": CHEAPER, "dirty": CHEAPER, "unchanged": UNCHANGED}
    for name, target in targets.items():
        cpu = [[1e3 * one[f"{name}_cpu"] / options.files for one in pair] for pair in rounds]
        details = {"cpu_ms_before_and_now": [[round(ms, 3) for ms in pair] for pair in cpu]}
        now = round(statistics.median(pair[1] for pair in cpu), 2)
        yield Measure(f"{name} files of 15 KB, processor time of each", now, "ms", details=details)
        yield _ratio("  of that before", rounds, f"{name}_cpu", target, "most")


def _ratio(name: str, rounds: Sequence[tuple[Answer, ...]], what: str, target: float | None, bound: Any) -> Measure:
    """The median over the rounds, of the ratios within each round."""
    ratios = [pair[0][what] / pair[1][what] if bound == "least" else pair[1][what] / pair[0][what] for pair in rounds]
    details = {"rounds": [round(ratio, 2) for ratio in ratios]}
    return Measure(name, round(statistics.median(ratios), 2), "times", target, bound, details)
