"""What a job on a queue may ask for: files to be ingested, or a notebook to be run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any, Self

from pydantic import Field, JsonValue, ValidationError, field_validator

from ingestlab.core.access import shown
from ingestlab.core.errors import TerminalError, UndecodableJobError
from ingestlab.core.models import NAME, IngestRequest, Value, digest
from ingestlab.core.settings import MB, Settings
from ingestlab.core.validation import first_fault

_PART = r"\w[\w .+=@(),\-]*"  # of a path: neither empty nor hidden nor "..", and without a backslash
NOTEBOOK = rf"^({_PART}/)*{_PART}\.ipynb$"


class NotebookRequest(Value):
    """Message on the queue of notebooks: one's name, and values for its parameters."""

    run: str = Field(pattern=NAME)
    tenant: str = Field("default", pattern=NAME)
    notebook: str = Field(pattern=NOTEBOOK, max_length=200)  # below a notebooks folder of the worker, never elsewhere
    parameters: dict[str, JsonValue] = Field(default_factory=dict)  # plain data: they become literals in the notebook

    @field_validator("parameters")
    @classmethod
    def _literals(cls, parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in parameters:
            if not name.isidentifier() or iskeyword(name):
                raise ValueError(f"{name!r} is no name of a parameter")
        json.dumps(parameters, allow_nan=False)  # NaN and infinities have no literal
        return parameters

    @property
    def job_id(self) -> str:
        """Name the job by what is asked. Asking twice is one job; who asks when does not matter."""
        return "notebook-" + digest(self.model_dump(mode="json", exclude={"run"}))[:32]

    @classmethod
    def decode(cls, data: Any) -> Self:
        """Read a message from the queue.

        Raises:
            UndecodableJobError: The message asks for something else, or for a notebook elsewhere.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            field, value, problem = first_fault(error)
            raise UndecodableJobError(
                "Message is no request for a notebook",
                expected="its path below the notebooks folder, such as run_pipeline.ipynb, with plain parameters",
                got=f"{field or 'message'}: {value!r}"[:200] + f" ({problem})",
                fix="Enqueue with ingestlab.submit_notebook() or `ingestlab notebook --enqueue`.",
            ) from None


Request = IngestRequest | NotebookRequest


def decode(data: Any) -> Request:
    """Decode the request in a message, of either kind; raises UndecodableJobError."""
    notebook = isinstance(data, Mapping) and "notebook" in data
    return NotebookRequest.decode(data) if notebook else IngestRequest.decode(data)


def subjects(request: Request) -> tuple[str, ...]:
    """List what a request is about, for people: its sources, or its notebook."""
    if isinstance(request, NotebookRequest):
        return (request.notebook,)
    return tuple(shown(source.uri) for source in request.sources)


def cost_of(request: Request) -> int:
    """Estimate what a request costs, in bytes. A file of unknown size counts a megabyte.

    Args:
        request: For files, or for a notebook.
    """
    if isinstance(request, NotebookRequest):
        return MB
    return max(1, sum(MB if source.size is None else source.size for source in request.sources))


def check_queue(request: Request, queue: str, settings: Settings) -> None:
    """Keep notebooks, which wait for files, on a queue of their own.

    Args:
        request: For files, or for a notebook.
        queue: Its name.
        settings: Name the queue of notebooks.

    Raises:
        TerminalError: It is not a queue for such a request.
    """
    own, notebook = settings.notebook_queue, isinstance(request, NotebookRequest)
    if notebook != (queue == own):
        got = f"{'a notebook' if notebook else 'files'} on '{queue}'"
        fix = "Leave the queue out." if notebook else "Name another queue, or check QUEUE_NAME."
        problem = f"Only notebooks belong on the queue '{own}', and all of them"
        raise TerminalError(problem, got=got, fix=fix, code="argument_invalid")
