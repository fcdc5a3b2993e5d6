"""What sinks have in common that are files of the lake, published by renaming."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ingestlab.core.models import Manifest
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Sink, Store
from ingestlab.lake.kept_files import retire


class Files(Sink):
    """Files of one sink in the lake. `reconcile` compares all files with the log at once."""

    name: str  # of the sink

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None:  # noqa: ARG002 - as all sinks
        self._store, self._history_days = store, settings.history_days

    @classmethod
    def home(cls, tenant: str, table: str) -> str:
        """Give what the paths of the files of a table begin with."""
        raise NotImplementedError

    def prepare(self, manifest: Manifest) -> None:
        """Publish the staged files; published already is no error."""
        for part in manifest.files(self.name):
            self._store.move(part.staged, part.target)

    def finish(self, manifest: Manifest) -> None:
        """Take out the files that are replaced. They are kept as long as the settings say."""
        retire(manifest, self.home(manifest.tenant, manifest.table), self._store, self._history_days)

    def undo(self, intent: Manifest, history: Callable[[], Sequence[Manifest]]) -> None:  # noqa: ARG002
        """Delete the published files; what is staged goes with its folder."""
        self._store.delete_files(part.target for part in intent.files(self.name))
