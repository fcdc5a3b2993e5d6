"""What a worker on the queue of notebooks does."""

from __future__ import annotations

import time

from ingestlab.core.errors import IngestError, JobStoppedError, TerminalError, TransientError
from ingestlab.core.messages import NotebookRequest
from ingestlab.core.models import IngestResult, Outcome, Progress
from ingestlab.engine.services import Services
from ingestlab.notebook.runner.archive import Kept, keep, run_made_by
from ingestlab.notebook.runner.kernel import Session, environment_of
from ingestlab.notebook.runner.source import find, read, with_parameters
from ingestlab.queue.job_records import Reporter, stop_error
from ingestlab.queue.worker import translate_error

LONGEST = 1000  # characters of a cell's error


def run_notebook(request: NotebookRequest, services: Services, report: Reporter) -> IngestResult:
    """Run a notebook of the worker's own. Keep it beside the run, however it ends.

    Args:
        request: Which one, and the values of its parameters.
        services: Whose settings the notebook finds.
        report: Is told which cell is at work, and asked whether to stop.

    Raises:
        TerminalError: There is no such notebook, it has no such parameter, or Jupyter is missing.
        TransientError: Redis or the lake does not answer, or no kernel comes up.
    """
    began, settings = time.monotonic(), services.of(request.tenant).settings
    path = find(request.notebook, settings)
    notebook = with_parameters(read(path), request.parameters)
    env = environment_of(settings.model_copy(update={"tenant": request.tenant}))
    session = Session(notebook, path.parent, env)
    error = _work(session, request.notebook, report)
    report(Progress(state="committing", files=1, partitions=session.total, partitions_done=session.total))
    kept = keep(path.stem, notebook, request.run, settings)
    return IngestResult(
        run=request.run,
        job=request.job_id,
        outcomes=(_outcome(request.notebook, kept, run_made_by(notebook), error),),
        seconds={"notebook": time.monotonic() - began},
    )


def _work(session: Session, name: str, report: Reporter) -> IngestError | None:
    """Run the cells. Give the error that ended them, unless it is worth another try."""

    def look() -> None:
        note = f"cell {max(1, session.begun)} of {session.total}"
        done = max(0, session.begun - 1)
        report(Progress(state="processing", files=1, partitions=session.total, partitions_done=done, note=note))
        if (why := report.stopped()) is not None:
            raise stop_error(why)

    try:
        said = session.run(look)
    except (Exception, JobStoppedError) as error:
        failure = translate_error(error)
        if isinstance(failure, TransientError):
            raise
        session.explain(str(failure))
        return failure.within(f"Cell [{session.begun}] of {name}" if session.begun else f"Notebook {name}")
    if not said:
        return None
    return TerminalError(f"Cell [{session.begun}] of {name} failed", got=said[:LONGEST], code="notebook_failed")


def _outcome(name: str, kept: Kept, made: str, error: IngestError | None) -> Outcome:
    facts = {"notebook": kept.notebook, "page": kept.page, **({"run": made} if made else {})}
    if error is None:
        return Outcome(uri=name, status="executed", facts=facts)
    fix = " ".join(text for text in (error.fix, f"All of it is in {kept.page}.") if text)
    return Outcome(uri=name, status="failed", facts=facts, error=error.replace(fix=fix).to_dict())
