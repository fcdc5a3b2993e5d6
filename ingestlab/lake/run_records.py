"""The records of runs: how each job of a run ended, for when Redis has forgotten it.

The id of a run begins with the time. The records of an hour are in one folder, so that the newest runs are found
without a look at the others, and those that are too old go folder by folder. Before 0.2 each run had a folder beside
these; such records are read, and expire, as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from ingestlab.core.models import to_json
from ingestlab.interfaces import Store
from ingestlab.lake import layout

_HOUR = re.compile(r"\d{8}-\d\d")


@dataclass(frozen=True)
class RunRecords:
    """Read and write the records of runs.

    Args:
        store: The lake.
    """

    store: Store

    def write(self, run: str, job: str, record: Mapping[str, Any]) -> None:
        """Keep how a job of a run ended, as plain data.

        Args:
            run: Its id.
            job: Its id.
            record: Plain data.
        """
        self.store.write(layout.run_record(run, job), to_json(record))

    def read(self, run: str, job: str) -> dict[str, Any] | None:
        """Return the record of a job; None if there is none.

        Args:
            run: Its id.
            job: Its id.
        """
        for home in (layout.run_records(run), layout.old_run_records(run)):
            try:
                return dict(json.loads(self.store.read(f"{home}/{job}.json")))
            except FileNotFoundError:
                continue
        return None

    def read_run(self, run: str) -> list[dict[str, Any]]:
        """Return the records of all jobs of a run, by their ids."""
        for home in (layout.run_records(run), layout.old_run_records(run)):
            if paths := list(self.store.walk(home)):
                return [json.loads(text) for text in self.store.read_files(paths) if text]
        return []

    def delete(self, run: str) -> None:
        """Remove the records of a run."""
        for home in (layout.run_records(run), layout.old_run_records(run)):
            self.store.delete(home)

    def newest(self) -> Iterator[str]:
        """Yield the ids of the runs, the newest hour first."""
        home = layout.run_records()
        for name in reversed(self.store.children(home)):
            yield from reversed(self.store.children(f"{home}/{name}")) if _HOUR.fullmatch(name) else (name,)

    def expire(self, days: float = inf) -> None:
        """Remove the records that are older than the retention.

        Args:
            days: The retention. A run counts by the hour of its beginning.
        """
        if days == inf:
            return
        home, oldest = layout.run_records(), f"{datetime.now(UTC) - timedelta(days=days):%Y%m%d-%H}"
        for name in self.store.children(home):
            if _HOUR.match(name) and name[: len(oldest)] < oldest:
                self.store.delete(f"{home}/{name}")
