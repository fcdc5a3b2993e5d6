"""What the manifests of a table say: which commits there were, and which files live."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Manifest, Part
from ingestlab.interfaces import Store
from ingestlab.lake import layout


def manifests(store: Store, tenant: str, table: str) -> list[Manifest]:
    """All manifests of a table, oldest first."""
    paths = [path for path in store.walk(layout.manifests(tenant, table)) if path.endswith(".json")]
    texts = zip(paths, store.read_files(paths), strict=True)
    return sorted((_parsed(store, path, text) for path, text in texts if text is not None), key=lambda m: m.sequence)


def load_manifest(store: Store, path: str) -> Manifest | None:
    """A manifest or intent; None if another job has just ended it, or if it is no file of ours."""
    if not path.endswith(".json"):
        return None
    try:
        text = store.read(path)
    except FileNotFoundError:
        return None
    return _parsed(store, path, text)


def live_parts(history: Iterable[Manifest]) -> Iterator[Part]:
    """The parts, rejects and vectors among them, that no later commit has replaced."""
    known = list(history)
    gone = {target for m in known for target in m.replaced}
    return (p for m in known for p in (*m.parts, *m.rejects, *m.vectors) if p.target not in gone)


def live_states(history: Iterable[Manifest]) -> Iterator[Part]:
    """The partial aggregates of the parts that no later commit has replaced."""
    known = list(history)
    gone = {target for m in known for target in m.replaced}
    return (s for m in known for s in m.states if s.target not in gone)


def live_vectors(history: Iterable[Manifest]) -> Iterator[Part]:
    """The files of vectors that no later commit has replaced."""
    known = list(history)
    gone = {target for m in known for target in m.replaced}
    return (v for m in known for v in m.vectors if v.target not in gone)


def everything(manifest: Manifest) -> tuple[Part, ...]:
    """All files that a commit publishes."""
    return (*manifest.parts, *manifest.rejects, *manifest.states, *manifest.vectors)


def embedded(manifest: Manifest) -> Iterator[Part]:
    """The vectors that a commit adds; it may also move what is left of files with superseded ones."""
    folder = layout.embedded(manifest.batch)
    return (part for part in manifest.vectors if part.staged.startswith(f"{folder}/"))


def sorted_out(parts: Iterable[Part], tenant: str, table: str) -> tuple[list[Part], list[Part], list[Part]]:
    """Parts of a table's rows, of its rejects and of its vectors, each by themselves."""
    names = (table, layout.rejects(table), layout.vectors(table))
    homes = [f"{layout.table(tenant, name)}/" for name in names]
    known = list(parts)
    rows, rejects, vectors = ([p for p in known if p.target.startswith(home)] for home in homes)
    return rows, rejects, vectors


def with_states(targets: Iterable[str], history: Iterable[Manifest]) -> tuple[str, ...]:
    """What a commit replaces if it replaces these parts: them and their partial aggregates."""
    parts = tuple(targets)
    return (*parts, *(s.target for s in with_state_keys(live_states(history), parts)))


def with_state_keys(states: Iterable[Part], targets: Iterable[str]) -> list[Part]:
    """The partial aggregates that are of some parts, which are given by their targets."""
    ends = {layout.part_key(target) for target in targets}
    return [state for state in states if layout.state_key(state.target) in ends]


def _parsed(store: Store, path: str, text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except (ValueError, json.JSONDecodeError) as error:
        raise TerminalError.wrap(error, f"a manifest in {store.full(path)}", "Restore it from a backup.") from error
