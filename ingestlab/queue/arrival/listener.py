"""A listener as a process: ``python -m ingestlab.queue.arrival.listener N`` runs that of ``settings.listen``."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from ingestlab.core.errors import TerminalError
from ingestlab.core.listening import ListenTo
from ingestlab.core.settings import Settings, load_settings
from ingestlab.engine.services import Services
from ingestlab.queue.arrival.listening import Target, listen
from ingestlab.queue.arrival.opening import feed_of
from ingestlab.queue.arrival.status import Heard
from ingestlab.queue.producer import check_names

log = logging.getLogger("ingestlab.queue.arrival")


def run(chosen: ListenTo, settings: Settings, tell: Callable[[str], None]) -> Heard:
    """Listen until SIGINT or SIGTERM. Call it in the main thread.

    Args:
        chosen: What to listen to.
        settings: Where everything is.
        tell: Is told what it listens to, and what is missing.

    Raises:
        TerminalError: It cannot be listened there, or a name is none.
    """
    tenant, queue = chosen.tenant or settings.tenant, chosen.queue or settings.queue
    settings = check_names(settings, chosen.pipeline, queue, tenant, chosen.table)
    feed, stop = feed_of(chosen.address, settings), threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    tell(f"Listening to {feed.name}. Ctrl-C ends it.")
    if not chosen.folders:
        tell(
            f"Nothing is synced behind {feed.name}: events that are lost stay lost. "
            "Name the folder that they tell of, e.g. --sync s3://bucket/folder."
        )
    target = Target(chosen.pipeline, tenant, chosen.table, queue)
    with Services.opened(settings) as services:
        return listen(feed, services, target, stop, chosen.folders)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the listeners that the settings name.

    Args:
        argv: Its number, from 1; None takes the command line's.

    Returns:
        The exit code.
    """
    settings = load_settings()
    (number,) = sys.argv[1:] if argv is None else argv
    try:
        run(settings.listen[int(number) - 1], settings, log.warning)
    except TerminalError as error:
        log.error("%s", error)  # noqa: TRY400 - the text says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
