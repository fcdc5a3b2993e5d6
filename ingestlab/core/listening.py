"""What a listener listens to, as a setting or a command says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from ingestlab.core.models import Value


class ListenTo(Value):
    """One listener: where it hears of files, and where they go."""

    address: str = Field(min_length=1)  # a folder, sqs://QUEUE, or whatever a plug-in serves
    sync: tuple[str, ...] | None = None  # folders that are synced; None: the address, where it is a folder
    pipeline: str | None = None
    table: str | None = None
    tenant: str | None = None
    queue: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        """Take an address alone, and one folder in place of a list."""
        if isinstance(data, str):
            return {"address": data}
        if isinstance(data, dict) and isinstance(data.get("sync"), str):
            return {**data, "sync": (data["sync"],)}
        return data

    @property
    def folders(self) -> tuple[str, ...]:
        """Return what is synced behind it. A queue does not say of which folders it tells."""
        if self.sync is not None:
            return self.sync
        return (self.address,) if "://" not in self.address or self.address.startswith("file://") else ()

    def located(self) -> Self:
        """Make the paths of local folders absolute."""
        sync = None if self.sync is None else tuple(map(absolute, self.sync))
        return self.model_copy(update={"address": absolute(self.address), "sync": sync})


def absolute(address: str) -> str:
    """Make the path of a local folder absolute."""
    return address if "://" in address else str(Path(address).expanduser().resolve())
