"""What a search finds: a DataFrame that shows the pictures of its rows in a notebook."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from ingestlab.analytics.embedders.images import opened
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import SourceRecord
from ingestlab.core.plain_frame import one_line
from ingestlab.interfaces import Store
from ingestlab.lake.log import manifests

SIDE = 64  # pixels of a thumbnail's longer side; smaller pictures are shown larger
MOST_BYTES = 32 << 20  # of a file that is looked at for its picture
_IMAGE = "image\u200b"  # a name that no column of a table has
_CELL = "white-space:nowrap;max-width:30em;overflow:hidden;text-overflow:ellipsis"  # long texts end in dots


@dataclass(frozen=True)
class Gallery:
    """Pictures of a tenant's source files, as the raw zone has them.

    Args:
        store: The lake.
        tenant: Whose tables.
        tables: Which.
    """

    store: Store
    tenant: str
    tables: tuple[str, ...]

    def picture(self, uri: str) -> str:
        """Render a file's thumbnail as HTML; empty where there is none."""
        content = self._files.get(uri)
        if content is None or content.size > MOST_BYTES:
            return ""
        try:
            image = opened(self.store.read(content.raw))
        except (FileNotFoundError, TerminalError):
            return ""  # a table is shown without it
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        side = "height" if image.height > image.width else "width"
        return f"<img src='data:image/png;base64,{data}' {side}='{SIDE}' alt=''>"

    @cached_property
    def _files(self) -> dict[str, SourceRecord]:
        """Map each source to its latest record in the lake."""
        history = [m for table in self.tables for m in manifests(self.store, self.tenant, table)]
        return {source.uri: source for manifest in history for source in manifest.sources}


class SearchResult(pd.DataFrame):
    """Rows that a search found, best first: a DataFrame with pictures in a notebook."""

    _metadata: ClassVar[list[str]] = ["_gallery"]
    _gallery: Gallery | None = None

    @property
    def _constructor(self) -> type[SearchResult]:
        return SearchResult

    @classmethod
    def of(cls, frame: pd.DataFrame, gallery: Gallery | None) -> SearchResult:
        """Wrap a frame of hits. With a gallery, its column `source` is shown as pictures too.

        Args:
            frame: A row for each hit.
            gallery: Finds the pictures; None to show none.
        """
        hits = cls(frame)
        object.__setattr__(hits, "_gallery", gallery)  # pandas would take it for a column
        return hits

    def _repr_html_(self) -> str | None:
        plain = pd.DataFrame(self)
        most = pd.get_option("display.max_rows") if pd.get_option("display.notebook_repr_html") else None
        if self._gallery is None or "source" not in self.columns or not most:
            return one_line(plain)
        rows = plain.head(most)
        rows.insert(0, _IMAGE, rows["source"])
        picture: Any = self._gallery.picture
        shown = rows.style.format(escape="html").format(picture, subset=[_IMAGE])
        for axis in (0, 1):
            shown = shown.format_index(escape="html", axis=axis)
        html: str = shown.set_table_styles([{"selector": "td", "props": _CELL}]).to_html()
        return html
