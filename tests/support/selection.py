"""Chooses which tests a command runs: `make test` the quick part, `make test-rest` what that leaves out."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings

PROFILES = {"quick": 20, "all": 100}  # examples of a law that names no number; the others are scaled by `examples`
SLOW_FIXTURES = {"browser": "in a browser"}  # what wants them is slow, marked or not
SERVERS = {  # the first that a file's tests ask for decides: what takes long to start is started by one process
    "the stack": r"\b(stack|yard|ready)\b",
    "other servers": r"\b(s3|gcs|bucket|gcs_bucket|milvus_lite)\b",
}
LEFT_OUT = pytest.StashKey[Counter[str]]()


def examples(number: int) -> int:
    """Scale a law's number of examples to the chosen part."""
    return max(2, number * settings().max_examples // PROFILES["all"])


def servers_of(text: str, *, slow: bool) -> str:
    """Name the servers that the tests of a file share with other files, by what its functions ask for."""
    asked = []
    for block in text.split("\n\n\n"):
        marks, _, _ = block.partition("def ")
        if slow or "mark.slow" not in marks:
            asked += re.findall(r"def \w+\(([^)]*)\)|getfixturevalue\(([^)]*)\)", block)
    names = " ".join(map(" ".join, asked))
    return next((kind for kind, pattern in SERVERS.items() if re.search(pattern, names)), "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give files that share servers to one process, in place of starting all servers in each."""
    from xdist.scheduler import LoadFileScheduling

    @cache
    def scope(file: str) -> str:
        return servers_of((config.rootpath / file).read_text(), slow=config.getoption("part") != "quick") or file

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(super()._split_scope(nodeid))

    return Together(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part",
        choices=("quick", "rest", "all"),
        default="all",
        help="quick: without tests marked slow, and a fifth of each law's examples; rest: slow tests and whole laws",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the profile before any test module is imported, and forget the size of a terminal that xdist invents.

    CI tries the same examples each time, so that a submission is not judged by luck; everyone else tries new ones.
    """
    for size in ("COLUMNS", "LINES"):
        os.environ.pop(size, None)
    name = "quick" if config.getoption("part") == "quick" else "all"
    fixed = bool(os.environ.get("CI"))
    settings.register_profile(name, max_examples=PROFILES[name], derandomize=fixed, deadline=None)
    settings.load_profile(name)
    config.stash[LEFT_OUT] = Counter()


def _slow(item: pytest.Item) -> str | None:
    """Name the kind of a slow test; none for a quick one."""
    if marker := item.get_closest_marker("slow"):
        return str(marker.args[0])
    return next((SLOW_FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in SLOW_FIXTURES), None)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name gzip streams without the time that is in them: processes that share the tests compare their names."""
    return "gzip" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("part")
    if part == "all":
        return
    chosen, others = [], []
    for item in items:
        slow = _slow(item)
        if part == "quick":
            (others if slow else chosen).append(item)
            config.stash[LEFT_OUT].update([slow] if slow else ())
        else:
            (chosen if slow or is_hypothesis_test(getattr(item, "obj", None)) else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = chosen


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts of a worker of xdist to the process that prints them."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    node.config.stash[LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash[LEFT_OUT]:
        kinds = ", ".join(f"{number} {kind}" for kind, number in left_out.most_common())
        terminalreporter.section("left out")
        terminalreporter.line(f"{left_out.total()} slow tests ({kinds}), and four fifths of the examples of each law.")
        terminalreporter.line("`make test-all` runs everything; `make test-rest` runs what was left out here.")
