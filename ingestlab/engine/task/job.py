"""What the tasks of a batch are told."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ingestlab.core.models import DataFile, FetchedFile, Value
from ingestlab.pipeline.catalog import PipelineSource


class Job(Value):
    """Settings that all tasks of a batch share."""

    run: str
    batch: str
    tenant: str
    table: str
    pipeline: PipelineSource
    lake: str
    storage_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    references: dict[str, FetchedFile] = Field(default_factory=dict)  # in the raw zone, by name
    types: dict[str, str] = Field(default_factory=dict)  # of the table's columns, as text
    replace: bool = False  # whether the sources' earlier rows go
    row_timeout: float = 10.0  # seconds that code of the pipeline may take for one row, where it is asked about one
    task_timeout: float = 900.0  # seconds for one step of a task
    sinks: dict[str, str] = Field(default_factory=dict)  # that the table fills, in order: names, and ``module:Class``
    earlier: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # see interfaces.Destination
    previous: dict[str, tuple[DataFile, ...]] = Field(default_factory=dict)  # likewise
    outside: dict[str, Any] = Field(default_factory=dict)  # settings for tasks that ask servers, if they do
