"""An announcement of each commit: a small JSON file in the lake, for systems that wait for new rows."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ingestlab.core.models import Manifest
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Live, Sink, Store

FOLDER = "announced"


class Announcements(Sink):
    """Write what was committed, and only then: ``announced/<tenant>/<table>/<batch>.json``."""

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None:
        self._store = store

    def finish(self, manifest: Manifest) -> None:
        """Write the announcement; twice gives the same file."""
        text = {"run": manifest.run, "files": [part.target for part in manifest.parts], "at": manifest.committed_at}
        self._store.write(_path(manifest), json.dumps(text).encode())

    def verify(self, tenant: str, table: str, live: Live) -> Sequence[str]:
        """Find the sources of commits without an announcement."""
        missing = [manifest for manifest in live.manifests() if not self._store.exists(_path(manifest))]
        return sorted({record.uri for manifest in missing for record in manifest.sources})

    def restore(self, tenant: str, table: str, uris: Sequence[str], live: Live) -> None:
        """Announce again the commits of some sources."""
        for manifest in live.manifests():
            if {record.uri for record in manifest.sources} & set(uris):
                self.finish(manifest)


def _path(manifest: Manifest) -> str:
    return f"{FOLDER}/{manifest.tenant}/{manifest.table}/{manifest.batch}.json"
