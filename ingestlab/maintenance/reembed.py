"""Rebuild what the sinks have of a table: what `ingestlab reembed` runs when a pipeline wants another model."""

from __future__ import annotations

from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.engine.services import Services
from ingestlab.interfaces import Rebuilding

PATIENCE = 60.0  # seconds that other commits get to end


def reembed(table: str, services: Services, *, tenant: str | None = None, patience: float = PATIENCE) -> Any:
    """Rebuild what a sink has of a table and its sharers.

    It may be killed at any time: then the old is used until it is run again, or `reconcile` is.

    Args:
        table: Its name.
        services: The connections to use.
        tenant: The tenant of the table.
        patience: Seconds to wait for other jobs that write the table.

    Returns:
        What the sink tells of it.

    Raises:
        TerminalError: There is no such table, or no sink can rebuild anything of it.
        TransientError: Other jobs have the table for too long, or a server is away.
    """
    tenant = tenant or services.settings.tenant
    services = services.of(tenant)
    for sink in services.lake.sinks.values():
        if isinstance(sink, Rebuilding):
            return sink.rebuild(services.lake, tenant, table, patience)
    raise TerminalError("No sink is installed that can be rebuilt", code="package_missing")
