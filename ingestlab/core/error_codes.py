"""The codes of all errors: what each means, what to do, and whether ingestlab tries again by itself.

Programs, pages and the command line group by code; the texts beside it are for people and may change.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Code = Literal[
    "access_denied",
    "address_not_allowed",
    "aggregate_invalid",
    "archive_invalid",
    "argument_invalid",
    "bad_encoding",
    "bad_file",
    "busy_source",
    "catalogue_conflict",
    "catalogue_unavailable",
    "clean_failed",
    "collection_conflict",
    "collection_unknown",
    "column_unknown",
    "columns_conflict",
    "columns_missing",
    "columns_unexpected",
    "connector_failed",
    "connector_invalid",
    "connector_missing",
    "connector_refuses",
    "contract_failed",
    "credentials_invalid",
    "cursor_invalid",
    "dask_unavailable",
    "dialect_unclear",
    "embedding_invalid",
    "filter_invalid",
    "history_gone",
    "http_error",
    "http_unavailable",
    "image_invalid",
    "inconsistent",
    "job_abandoned",
    "job_invalid",
    "job_refused",
    "job_stopped",
    "job_timeout",
    "kernel_failed",
    "lake_busy",
    "lake_damaged",
    "lake_unavailable",
    "lake_unwritable",
    "later_changes",
    "lease_lost",
    "limit_exceeded",
    "milvus_unavailable",
    "model_failed",
    "model_unknown",
    "mongodb_unavailable",
    "name_invalid",
    "no_matches",
    "no_rows",
    "not_found",
    "notebook_failed",
    "notebook_invalid",
    "notebook_not_found",
    "package_missing",
    "pages_conflict",
    "partition_invalid",
    "pipeline_ambiguous",
    "pipeline_invalid",
    "pipeline_unknown",
    "quality_gate",
    "reader_invalid",
    "redis_unavailable",
    "reference_invalid",
    "run_not_ended",
    "run_unknown",
    "scheme_not_allowed",
    "service_failed",
    "setting_invalid",
    "setting_missing",
    "source_changed",
    "source_slow",
    "source_unavailable",
    "spark_failed",
    "stack_not_running",
    "stream_unknown",
    "table_unknown",
    "task_died",
    "task_timeout",
    "tenant_unknown",
    "tls_failed",
    "too_many_vanished",
    "types_conflict",
    "unforeseen",
    "unknown",
    "uri_invalid",
    "values_invalid",
    "vectors_lost",
    "worker_lost",
    "wrong_format",
]


class Explanation(NamedTuple):
    """What a code stands for."""

    meaning: str
    action: str
    retried: bool = False  # by ingestlab itself, with growing delays


CODES: dict[Code, Explanation] = {
    # sources
    "access_denied": Explanation(
        "The source refuses to show the file.", "Check the credentials, and who may read the file."
    ),
    "address_not_allowed": Explanation(
        "The access policy forbids this host, address or folder.",
        "Use an allowed one, or extend INGESTLAB_ALLOW_HOSTS, INGESTLAB_DENY_NETWORKS or INGESTLAB_FILE_ROOTS.",
    ),
    "archive_invalid": Explanation(
        "An archive has a member that cannot be taken as a file.", "See what the producer packed."
    ),
    "connector_failed": Explanation(
        "A connector of Airbyte died, hung, or could not reach its system.", "See the run's log.", retried=True
    ),
    "connector_invalid": Explanation(
        "A connector breaks the Airbyte protocol.", "Try another version of it; see the run's log."
    ),
    "connector_missing": Explanation(
        "A connector of Airbyte is not where the worker runs.", "`ingestlab airbyte install` brings it."
    ),
    "connector_refuses": Explanation(
        "A connector of Airbyte cannot connect with its configuration.", "Correct `config`, or the credentials."
    ),
    "credentials_invalid": Explanation(
        "Credentials are missing, wrong, or written into a URI.", "Set INGESTLAB_STORAGE_OPTIONS, or the password."
    ),
    "http_error": Explanation("A web server refused the request.", "Check the address in a browser."),
    "http_unavailable": Explanation(
        "A web server is overloaded or out of order.", "Wait; submit the file again if it lasts.", retried=True
    ),
    "no_matches": Explanation("No file matches the pattern.", "Check the pattern, and quote it in a shell."),
    "not_found": Explanation("There is no file of this name.", "Check the address."),
    "scheme_not_allowed": Explanation(
        "URIs of this scheme may not be read.", "Check the spelling, or add the scheme to INGESTLAB_SCHEMES."
    ),
    "pages_conflict": Explanation(
        "An API's pages do not go on, or have other records than it announces.",
        "Check the paginator; ask for the records in an order that does not change.",
    ),
    "source_changed": Explanation(
        "A file changed while it was being read.", "Announce files when they are complete.", retried=True
    ),
    "source_slow": Explanation(
        "A source sent too little in its time.", "Try later, or raise the limit that the text names.", retried=True
    ),
    "cursor_invalid": Explanation(
        "A pull of records cannot tell from where it goes on.",
        "Do what the error says: another cursor, or all records from the beginning.",
    ),
    "source_unavailable": Explanation(
        "A source does not answer, or broke off.", "Check that it is up, and the network.", retried=True
    ),
    "stream_unknown": Explanation("A connector has no stream of this name.", "Check the name."),
    "tenant_unknown": Explanation("There is no tenant of this name.", "Add it to INGESTLAB_TENANTS."),
    "tls_failed": Explanation("A server's certificate is not trusted.", "Check the server's certificate."),
    "too_many_vanished": Explanation(
        "A listing lacks more known files than a sync takes out.", "Check the folder, or set the ratio to 1."
    ),
    "uri_invalid": Explanation("A URI cannot be read as one.", "Check its spelling."),
    # formats
    "bad_encoding": Explanation("Text is not in the encoding that was declared.", "Declare the file's encoding."),
    "bad_file": Explanation(
        "A file is empty, damaged, cut short or encrypted.", "Fetch it again from its producer, or have it repaired."
    ),
    "columns_conflict": Explanation("Two columns have one name.", "Rename one of them."),
    "columns_missing": Explanation(
        "A file lacks columns that the pipeline declares.", "Correct the file, or the reader's columns."
    ),
    "columns_unexpected": Explanation(
        "A file has columns that the pipeline does not declare.", "Declare them, or set schema_drift."
    ),
    "dialect_unclear": Explanation(
        "The delimiter or the header of a CSV file cannot be told.", "Write it down in a pipeline."
    ),
    "image_invalid": Explanation("An image cannot be decoded.", "Fetch it again from its producer."),
    "limit_exceeded": Explanation("Something is larger than its limit.", "Make it smaller, or raise the limit."),
    "no_rows": Explanation("A file holds no records.", "See what the producer left out."),
    "reader_invalid": Explanation("An option of a reader has no such value.", "Correct the pipeline's reader."),
    "types_conflict": Explanation("Values of one column do not fit one type.", "Declare the column, or convert it."),
    "values_invalid": Explanation("Values are not what their column says.", "Correct the values or the declaration."),
    "wrong_format": Explanation("A file is of another format.", "Name the pipeline that reads such files."),
    # pipelines
    "aggregate_invalid": Explanation("An Aggregate is not declared well.", "Correct it in the pipeline."),
    "clean_failed": Explanation("A pipeline's clean raised, or returned no usable frame.", "Correct clean."),
    "column_unknown": Explanation("A column that is named is not there.", "Check the name."),
    "contract_failed": Explanation("A pipeline's contract itself raised.", "Correct the contract."),
    "embedding_invalid": Explanation("An Embedding is not declared well.", "Correct it in the pipeline."),
    "name_invalid": Explanation("A name cannot serve as a folder's or a column's name.", "Choose another."),
    "partition_invalid": Explanation("A table cannot be partitioned by this column.", "Partition by another column."),
    "pipeline_ambiguous": Explanation("Several pipelines match a file.", "Name one of them."),
    "pipeline_invalid": Explanation("A pipeline does not load.", "Correct its file."),
    "pipeline_unknown": Explanation("There is no such pipeline, or none for a file.", "Check the name, or write one."),
    "quality_gate": Explanation(
        "More rows were rejected than the pipeline allows.", "See the rejects; correct the file or the pipeline."
    ),
    "reference_invalid": Explanation("A lookup table cannot be used.", "Correct the reference or its reader."),
    # embeddings
    "collection_conflict": Explanation(
        "A collection holds vectors of another model, or other fields.", "Use another collection, or reembed."
    ),
    "collection_unknown": Explanation("There is no such collection.", "Ingest with an embedding to make it."),
    "filter_invalid": Explanation("The filter of a search cannot be understood.", "Correct the filter."),
    "catalogue_conflict": Explanation(
        "A table cannot be registered in a catalogue as it is.", "Do what the text says, then `ingestlab reconcile`."
    ),
    "catalogue_unavailable": Explanation(
        "A catalogue does not answer.", "Check that it is up; the next commit or `reconcile` registers.", retried=True
    ),
    "milvus_unavailable": Explanation("Milvus does not answer.", "Check that it is up.", retried=True),
    "model_failed": Explanation("A model raised, or gave something unusable.", "Try it on one of the inputs."),
    "model_unknown": Explanation("There is no such model, or it does not load.", "Check its name and its files."),
    "mongodb_unavailable": Explanation(
        "MongoDB does not answer, or refuses.", "Check that it is up, and its user's rights.", retried=True
    ),
    "vectors_lost": Explanation("Vectors disappeared during the commit.", "Nothing: it is repeated.", retried=True),
    # jobs
    "busy_source": Explanation("Another job holds a source or a table.", "Nothing: this job waits.", retried=True),
    "dask_unavailable": Explanation(
        "The Dask cluster does not answer, or has no workers.", "Check DASK_SCHEDULER_ADDRESS.", retried=True
    ),
    "spark_failed": Explanation("Spark does not start, or cannot compute a frame.", "See what frame.show() says."),
    "inconsistent": Explanation("Counts do not add up; nothing was published.", "Please report it."),
    "job_abandoned": Explanation("Several workers died while running a job.", "Was there memory enough?"),
    "job_invalid": Explanation("A message on the queue is no request.", "Enqueue with `ingestlab submit`."),
    "job_refused": Explanation("A worker that is not ingestlab's took a job.", "Set RQ_WORKER_CLASS."),
    "job_stopped": Explanation("A job was stopped because someone asked for it.", "`ingestlab retry` runs it again."),
    "job_timeout": Explanation("A job took longer than it may.", "Ask for less, or raise INGESTLAB_JOB_TIMEOUT."),
    "lease_lost": Explanation("A job lost its locks, and must not publish.", "Nothing: it is repeated.", retried=True),
    "run_not_ended": Explanation("A run has not ended.", "Wait for it.", retried=True),
    "run_unknown": Explanation("There is no such run, or no record of it.", "`ingestlab runs` lists them."),
    "task_died": Explanation("The process of a task ended.", "Was there memory enough?"),
    "task_timeout": Explanation("A pipeline's code did not end.", "Correct it, or set INGESTLAB_TASK_TIMEOUT."),
    "unforeseen": Explanation("An error that ingestlab does not know.", "The log has the traceback."),
    "unknown": Explanation("An error without a code, e.g. of an older version.", "Read its text."),
    "worker_lost": Explanation("Dask workers died while running a task.", "Was there memory enough?", retried=True),
    # lake
    "history_gone": Explanation(
        "An earlier state of a table is no longer kept.", "See `ingestlab history`, and INGESTLAB_HISTORY_DAYS."
    ),
    "lake_busy": Explanation("A table kept changing while it was read.", "Try again.", retried=True),
    "lake_damaged": Explanation("A file of the lake is missing or damaged.", "`ingestlab reconcile` lists them."),
    "lake_unavailable": Explanation("The lake's storage does not answer.", "Check that it is up.", retried=True),
    "lake_unwritable": Explanation("The lake cannot be written.", "Free space, or check owner and options."),
    "later_changes": Explanation("Later runs have changed what a run brought.", "Undo them first."),
    "table_unknown": Explanation("There is no such table or aggregate.", "`ingestlab tables` lists them."),
    # settings, servers, notebooks
    "argument_invalid": Explanation("An argument has no such value.", "See what the call takes."),
    "kernel_failed": Explanation("A notebook's kernel did not start.", "Is the machine very busy?", retried=True),
    "notebook_failed": Explanation("A cell of a notebook failed.", "See the notebook that was kept."),
    "notebook_invalid": Explanation("A file is no notebook, or has no such parameters.", "Correct the notebook."),
    "notebook_not_found": Explanation("There is no such notebook.", "Check the name."),
    "package_missing": Explanation("A package is not installed.", "Install the extra that the text names."),
    "redis_unavailable": Explanation("Redis does not answer.", "`ingestlab doctor` tells more.", retried=True),
    "service_failed": Explanation("A part of the embedded stack did not start.", "See its log."),
    "setting_invalid": Explanation("A setting has no such value.", "Correct the setting."),
    "setting_missing": Explanation("A setting is needed and not there.", "Set it, or start `ingestlab up`."),
    "stack_not_running": Explanation("The embedded stack is not there.", "Start one with `ingestlab up`."),
}


def markdown() -> str:
    """Return the page of the documentation that lists all codes."""
    lines = [
        "# Error codes",
        "",
        "Every error that ingestlab raises has a `code`. Programs, the Ingest page, notebooks and `ingestlab show`",
        "group by it. The texts beside it are for people, and may change from version to version.",
        "",
        "Errors with *Retried: yes* are `TransientError`s: ingestlab tries such a job again.",
        "All others are `TerminalError`s. In Python this table is `ingestlab.errors.CODES`; in a terminal,",
        "`ingestlab errors`.",
        "",
        "| Code | Meaning | What to do | Retried |",
        "|---|---|---|---|",
    ]
    rows = (
        f"| `{code}` | {said.meaning} | {said.action} | {'yes' if said.retried else 'no'} |"
        for code, said in sorted(CODES.items())
    )
    return "\n".join([*lines, *rows, ""])
