"""Which listener serves an address."""

from __future__ import annotations

from urllib.parse import urlsplit

from ingestlab.core.access import scheme_of, shown
from ingestlab.core.errors import TerminalError
from ingestlab.core.plugins import load, plugins
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Feed


def feed_of(address: str, settings: Settings) -> Feed:
    """Find the listener that serves an address, by its scheme.

    Args:
        address: A folder, ``sqs://QUEUE`` or the URL of a queue of SQS, ``pubsub://PROJECT/SUBSCRIPTION``, or whatever
            a plug-in serves.
        settings: For its credentials and limits.

    Raises:
        TerminalError: None serves it, or it has credentials in it.
    """
    if "@" in urlsplit(address).netloc:
        raise TerminalError(
            f"The address has credentials in it: {shown(address)}",
            expected="an address without a user and password",
            fix="Give them in the environment, or in INGESTLAB_STORAGE_OPTIONS.",
            code="credentials_invalid",
        )
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
            fix="Name a folder, sqs://QUEUE, or pubsub://PROJECT/SUBSCRIPTION.",
            code="argument_invalid",
        )
    feed: Feed = load("feeds", scheme)(address, settings)
    return feed
