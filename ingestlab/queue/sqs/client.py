"""Amazon SQS by botocore's client, and its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ingestlab.core.error_codes import Code
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import Settings

VISIBLE = 60  # seconds for which a message is ours, and by which a sign of life extends it
_Problem = tuple[str, str, Code]
_UNKNOWN: _Problem = ("There is no queue {name}", "Check its name, its region and the account.", "not_found")
_DENIED: _Problem = (
    "Not allowed to use the queue {name}",
    "Allow sqs:GetQueueUrl, GetQueueAttributes, SendMessage, ReceiveMessage, DeleteMessage, ChangeMessageVisibility.",
    "access_denied",
)
_CREDENTIALS: _Problem = (
    "No usable credentials for {name}",
    "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, and the clock of this machine.",
    "credentials_invalid",
)
_REGION: _Problem = (
    "No AWS region is named for {name}",
    """Set AWS_DEFAULT_REGION, or INGESTLAB_STORAGE_OPTIONS='{"sqs": {"region_name": "eu-west-1"}}'.""",
    "setting_missing",
)
# By the code of an answer, or by the class of botocore's error. A signature is wrong by its key, or by its time.
_PROBLEMS: dict[str, _Problem] = {
    **dict.fromkeys(("NonExistentQueue", "QueueDoesNotExist", "InvalidAddress"), _UNKNOWN),
    **dict.fromkeys(("AccessDenied", "AccessDeniedException", "KmsAccessDenied"), _DENIED),
    **dict.fromkeys(("InvalidClientTokenId", "UnrecognizedClientException", "IncompleteSignature"), _CREDENTIALS),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired"), _CREDENTIALS),
    **dict.fromkeys(("SignatureDoesNotMatch", "InvalidSignatureException", "RequestTimeTooSkewed"), _CREDENTIALS),
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"), _CREDENTIALS),
    "NoRegionError": _REGION,
}


def open_client(settings: Settings) -> Any:
    """Make a client.

    Args:
        settings: Their ``storage_options`` for ``sqs`` are its arguments, such as ``endpoint_url``.
    """
    import botocore.session  # noqa: PLC0415 - slow to import

    options = settings.storage_options.get("sqs", {})
    region = {"region_name": "us-east-1"} if options.get("endpoint_url") else {}
    return botocore.session.Session().create_client("sqs", **{**region, **options})


@contextmanager
def reaching_sqs(name: str) -> Iterator[None]:
    """Translate errors of AWS.

    Args:
        name: Of the queue, as people are shown it.

    Raises:
        TerminalError: There is no such queue, or we are not let in.
        TransientError: Anything else.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - slow to import

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        refused = isinstance(error, ClientError)
        code = str(error.response.get("Error", {}).get("Code", "")) if refused else type(error).__name__
        if known := _PROBLEMS.get(code.rpartition(".")[2]):
            problem, fix, kind = known
            raise TerminalError.wrap(error, problem.format(name=name), fix, code=kind) from error
        problem = f"SQS refuses what is asked of {name}" if refused else f"No answer from {name}"
        fix = "Try again." if refused else "Check the region, the endpoint and the network."
        raise TransientError.wrap(error, problem, fix, code="source_unavailable") from error
