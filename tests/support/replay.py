"""A small lake whose pipeline can be mended, so that its rejects can be replayed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ingestlab.analytics.lake import Lake
from ingestlab.core.models import Again, IngestRequest, IngestResult, Source
from ingestlab.lake.log import manifests
from ingestlab.maintenance.replay.replay import replay
from ingestlab.queue.replays import with_rejects
from support.lake import FaultInjector, World

FIRST = [1, 2, 13, 4, 5000, 1500]
SECOND = [7, 1001, 13, 2500, 10]


class Mendable(World):
    """A world whose pipeline can be mended: the contract's limit, and the number that `clean` drops."""

    def mend(self, limit: int = 1000, dropped: int = 13) -> None:
        path = Path(self.settings.pipelines[0]) / "small.py"
        text = path.read_text()
        before = text[text.index("lt(") :].split(")")[0], text[text.index("!= ") :].split("]")[0]
        path.write_text(text.replace(before[0], f"lt({limit}").replace(before[1], f"!= {dropped}"))
        self.passes = lambda n: n != dropped and n < limit

    def replay(self, faults: FaultInjector | None = None, *, run: str = "again", **wanted: str) -> IngestResult | None:
        """Replays as a job would; None if there is nothing to ask for."""
        history = with_rejects(manifests(self.store, "default", "small"), wanted.get("run_of"))
        if not history:
            return None
        request = IngestRequest(
            run=run,
            table="small",
            sources=tuple(Source(uri=r.uri) for r in history),
            replay=Again(rule=wanted.get("rule"), run=wanted.get("run_of")),
        )
        return replay(request, self.context(faults), lambda _progress: None)

    def check_all(self) -> None:
        self.check(sorted(self.expected))

    def counts(self) -> Counter[str]:
        return Counter(Lake(self.settings).rejects("small")["rule"])


def filled(world: Mendable) -> Mendable:
    world.ingest([world.put("a.csv", FIRST), world.put("b.csv", SECOND)], run="r0")
    world.ingest([world.put("c.csv", [3, 13, 1200])], run="r1")
    return world
