"""Which listener serves an address."""

from __future__ import annotations

from ingestlab.core.access import scheme_of
from ingestlab.core.errors import TerminalError
from ingestlab.core.plugins import load, plugins
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Feed


def feed_of(address: str, settings: Settings) -> Feed:
    """Find the listener that serves an address, by its scheme.

    Args:
        address: A folder, ``sqs://QUEUE`` or the URL of a queue of SQS, or whatever a plug-in serves.
        settings: For its credentials and limits.

    Raises:
        TerminalError: None serves it.
    """
    scheme = scheme_of(address)
    if scheme in {"http", "https"} and (
        ".queue." in address or "//sqs." in address or "sqs" in settings.storage_options
    ):
        scheme = "sqs"
    if scheme not in plugins("feeds"):
        known = ", ".join(sorted(plugins("feeds")))
        raise TerminalError(
            f"Nothing listens to {scheme}:// addresses",
            expected=f"one of {known}",
            fix="Name a folder, or sqs://QUEUE.",
            code="argument_invalid",
        )
    feed: Feed = load("feeds", scheme)(address, settings)
    return feed
