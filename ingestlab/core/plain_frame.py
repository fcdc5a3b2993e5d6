"""Frames as people read them in a notebook: each row in one line, however narrow its place beside the dashboard."""

from __future__ import annotations

from typing import Any

import pandas as pd

_CELL = "<td style='white-space:nowrap'>"  # notebooks break names at each hyphen else


class PlainFrame(pd.DataFrame):
    """DataFrame that shows its rows unbroken in a notebook."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame  # what is made of it is for its maker to show

    def _repr_html_(self) -> str | None:
        return one_line(pd.DataFrame(self))


def one_line(frame: pd.DataFrame) -> str | None:
    """Render a frame as pandas does, with unbroken rows. None where pandas shows no HTML."""
    plain: Any = frame
    text: str | None = plain._repr_html_()
    return text.replace("<td>", _CELL) if text else None
