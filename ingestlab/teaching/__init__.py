"""The course's answers are checked here: ``from ingestlab.teaching import check``.

One module a chapter of ``notebooks/``. A check looks at the student's own run, table or function, never at a number
that we have written down, and says briefly what is missing. Imported in a notebook, this also explains names that no
cell has given a value.
"""

from __future__ import annotations

from ingestlab.stack.samples import QUESTIONS, alarm_files
from ingestlab.teaching.answers import check, unsolved
from ingestlab.teaching.checks import NotYet
from ingestlab.teaching.order import explain_missing_names
from ingestlab.teaching.packages import needs
from ingestlab.teaching.processes import OwnProcess, OwnWebhook, start_listener, start_webhook, start_worker

__all__ = [
    "QUESTIONS",
    "NotYet",
    "OwnProcess",
    "OwnWebhook",
    "alarm_files",
    "check",
    "needs",
    "start_listener",
    "start_webhook",
    "start_worker",
    "unsolved",
]

explain_missing_names()
