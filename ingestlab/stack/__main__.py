"""A stack in the background: ``python -m ingestlab.stack SPEC REPORT``, started by :func:`ingestlab.stack.start`.

SPEC is JSON, REPORT a file descriptor that gets lines of JSON: one for each service that serves, then the state when
all do, or the error. All settings stand in the environment.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from typing import Any

from ingestlab.core.errors import IngestError
from ingestlab.core.settings import Settings
from ingestlab.stack.control import run
from ingestlab.stack.services import Spec

log = logging.getLogger("ingestlab.stack")


def main(argv: list[str] | None = None) -> int:
    """Run a stack until a signal stops it. The exit code says whether it started."""
    parser = argparse.ArgumentParser(prog="python -m ingestlab.stack")
    parser.add_argument("spec", type=Spec.from_json)
    parser.add_argument("report", type=int)
    args = parser.parse_args(argv)
    os.set_inheritable(args.report, False)  # else the parts would hold it open
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with os.fdopen(args.report, "w") as pipe:

        def report(answer: dict[str, Any]) -> None:
            pipe.write(json.dumps(answer))
            pipe.close()

        def tell(name: str) -> None:
            if not pipe.closed:  # it is once all serve; a later one was started anew
                pipe.write(json.dumps({"serves": name}) + "\n")
                pipe.flush()

        try:
            run(Settings(), args.spec, lambda state: report(state.to_dict()), tell)
        except IngestError as error:
            log.error("%s", error)  # noqa: TRY400 - the text says it all
            if not pipe.closed:
                report({"error": error.to_dict()})
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
