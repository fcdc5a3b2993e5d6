"""What sinks have in common that are files of the lake, published by renaming."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ingestlab.core.models import Manifest, Part
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Live, Store


class Files:
    """Files that one field of a manifest names; :class:`ingestlab.interfaces.Sink` says what the methods do."""

    field: str

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None:  # noqa: ARG002 - as all sinks
        self._store = store

    def prepare(self, manifest: Manifest) -> None:
        """Publish the staged files; published already is no error."""
        for part in self._parts(manifest):
            self._store.move(part.staged, part.target)

    def finish(self, manifest: Manifest) -> None:
        """Delete the files that are replaced."""
        self._store.delete_files(target for target in manifest.replaced if self.owns(target, manifest))

    def undo(self, intent: Manifest, history: Callable[[], Sequence[Manifest]]) -> None:  # noqa: ARG002
        """Delete the published files; what is staged goes with its folder."""
        self._store.delete_files(part.target for part in self._parts(intent))

    def shared(self, manifest: Manifest) -> str:  # noqa: ARG002
        """Name nothing: no other table has its files here."""
        return ""

    def verify(self, tenant: str, table: str, live: Live) -> Sequence[str]:  # noqa: ARG002
        """Find nothing: `reconcile` compares all files of the lake with the log at once."""
        return ()

    def restore(self, tenant: str, table: str, uris: Sequence[str], live: Live) -> None:
        """Do nothing: only a backup brings files back."""

    def owns(self, target: str, manifest: Manifest) -> bool:
        """Tell whether a file of the table is one of these."""
        raise NotImplementedError

    def _parts(self, manifest: Manifest) -> tuple[Part, ...]:
        parts: tuple[Part, ...] = getattr(manifest, self.field)
        return parts
