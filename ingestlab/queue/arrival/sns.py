"""Messages of Amazon SNS that come by HTTPS: who sent them is checked before anything of them is believed.

Sources: "Verifying the signatures of Amazon SNS messages" and "Message delivery retries" of Amazon SNS's developer
guide. SNS waits 15 seconds for an answer, repeats what got none or 5xx for an hour at most, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

import aiohttp

from ingestlab.core.error_codes import Code
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.extras import needed
from ingestlab.core.settings import Settings

log = logging.getLogger("ingestlab.queue.arrival")

OLDEST = timedelta(hours=1, minutes=15)  # of a message: SNS repeats it for an hour
AHEAD = timedelta(minutes=15)  # by which the clocks may differ
Kind = Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
_SIGNED: dict[str, tuple[str, ...]] = {  # in this order
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_TOPIC = re.compile(r"arn:(aws[a-z-]*):sns:([a-z]{2}(?:-[a-z]+)+-\d+):\d{12}:[\w.-]+", re.ASCII)
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[0-9A-Za-z]+\.pem", re.ASCII)
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_KEPT = 32  # certificates


@dataclass(frozen=True)
class SnsMessage:
    """A message that SNS has signed.

    Attributes:
        kind: What it is about.
        topic: The ARN of its topic.
        text: What was published; for a confirmation a text for people.
        subscribe_url: Confirms the subscription, where it is about that.
    """

    kind: Kind
    topic: str
    text: str
    subscribe_url: str = ""


class SnsInspector:
    """Read messages of SNS, and refuse others.

    Only known topics are read. Certificates are fetched from SNS in the region of the topic alone, and kept.

    Args:
        settings: Their `sns_topics` are the known ones; ``storage_options`` for ``sns`` may name another server than
            AWS by ``endpoint_url``.

    Raises:
        TerminalError: One of them is no ARN, or the package that checks signatures is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self._topics = frozenset(settings.sns_topics)
        self._endpoint = str(settings.storage_options.get("sns", {}).get("endpoint_url", "")).rstrip("/")
        self._certificates: dict[str, Any] = {}
        for topic in self._topics:  # told at the start, and not to SNS
            self._home(topic)
            needed("cryptography.x509", "sns", "the signatures of SNS")

    async def read(self, body: bytes) -> SnsMessage:
        """Read a message, and check who has sent it.

        Args:
            body: As it came.

        Raises:
            TerminalError: It is no message of SNS, or of no known topic, or was not signed by SNS.
            TransientError: The certificate cannot be fetched, or the message's time is too far from this clock's.
        """
        fields = _fields(body)
        topic = fields["TopicArn"]
        if topic not in self._topics:
            fix = f"Add it to INGESTLAB_SNS_TOPICS, or end its subscription. Known are {len(self._topics)} topics."
            raise _foreign(f"The topic {topic!r} is none of this service's", fix)
        _check_age(fields["Timestamp"])
        key = await self._key(fields["SigningCertURL"], self._home(topic))
        _check_signature(fields, key)
        return SnsMessage(fields["Type"], topic, fields["Message"], fields.get("SubscribeURL", ""))  # type: ignore[arg-type]

    async def confirm(self, message: SnsMessage) -> None:
        """Confirm a subscription, so that messages begin to come.

        Args:
            message: That has asked for it.

        Raises:
            TerminalError: Its URL is not that of SNS.
            TransientError: SNS does not confirm it.
        """
        home, url = self._home(message.topic), message.subscribe_url
        asked = parse_qs(urlsplit(url).query)
        if not url.startswith(f"{home}/") or asked.get("Action") != ["ConfirmSubscription"]:
            raise _foreign(f"The SubscribeURL does not confirm a subscription at {home}", "See who has sent it.")
        await _get(url, "The subscription cannot be confirmed")
        log.info("Subscribed to %s", message.topic)

    def _home(self, topic: str) -> str:
        """Return where SNS has a topic, as the beginning of a URL."""
        match = _TOPIC.fullmatch(topic)
        if match is None:
            raise _foreign(f"This is no ARN of a topic: {topic!r}", "Correct INGESTLAB_SNS_TOPICS.", "setting_invalid")
        ending = ".cn" if match[1] == "aws-cn" else ""
        return self._endpoint or f"https://sns.{match[2]}.amazonaws.com{ending}"

    async def _key(self, url: str, home: str) -> Any:
        """Return the public key of a certificate that SNS serves."""
        if not url.startswith(f"{home}/") or not _CERTIFICATE.fullmatch(url.removeprefix(home)):
            problem = f"The certificate is not one of SNS: {url!r}"
            raise _foreign(problem, f"It must be {home}/SimpleNotificationService-….pem.", "address_not_allowed")
        certificate = self._certificates.get(url)
        if certificate is None:
            certificate = _certificate(await _get(url, "The certificate of SNS cannot be fetched"), url)
            if len(self._certificates) >= _KEPT:
                self._certificates.clear()
            self._certificates[url] = certificate
        if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
            raise _foreign(f"The certificate {url} is not valid today", "Check the clock of this machine.")
        return certificate.public_key()


def _fields(body: bytes) -> dict[str, str]:
    """Return the fields of a message that can be checked."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    kind = data.get("Type") if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind not in get_args(Kind):
        raise TerminalError(
            "The body is no message of Amazon SNS",
            got=f"Type {kind!r}" if isinstance(data, dict) else "no JSON object",
            fix="Switch raw message delivery off: without its envelope a message has no signature.",
            code="argument_invalid",
        )
    wanted = ("Message", "MessageId", "Timestamp", "TopicArn", "SignatureVersion", "Signature", "SigningCertURL")
    missing = [name for name in wanted if not isinstance(data.get(name), str)]
    if missing:
        raise _foreign(f"The message is not signed: {', '.join(missing)} missing", "Only SNS itself may send messages.")
    return {name: value for name, value in data.items() if isinstance(value, str)}


def _check_age(text: str) -> None:
    """Refuse messages that were kept, and clocks that are wrong: the right message comes again."""
    try:
        sent = datetime.fromisoformat(text)
    except ValueError:
        sent = None
    if sent is None or sent.tzinfo is None:
        raise _foreign(f"The message has no time: {text!r}", "Only SNS itself may send messages.")
    now = datetime.now(UTC)
    if not now - OLDEST <= sent <= now + AHEAD:
        raise TransientError(
            "The message is too old, or the clock of this machine is wrong",
            got=f"a message of {text}, and {now:%Y-%m-%dT%H:%M:%SZ} here",
            fix="Check the clock.",
            code="source_unavailable",
        )


def _check_signature(fields: Mapping[str, str], key: Any) -> None:
    """Refuse what SNS has not signed as it is."""
    crypto = "cryptography.hazmat.primitives"
    hashes = needed(f"{crypto}.hashes", "sns", "the signatures of SNS")
    padding = needed(f"{crypto}.asymmetric.padding", "sns", "the signatures of SNS")
    rsa = needed(f"{crypto}.asymmetric.rsa", "sns", "the signatures of SNS")
    invalid = needed("cryptography.exceptions", "sns", "the signatures of SNS").InvalidSignature
    version = fields["SignatureVersion"]
    algorithm = {"1": hashes.SHA1, "2": hashes.SHA256}.get(version)  # what SNS itself signs with
    if algorithm is None or not isinstance(key, rsa.RSAPublicKey):
        raise _foreign(f"The message has a signature of another kind: version {version!r}", "SNS knows 1 and 2.")
    names = _SIGNED.get(fields["Type"], _SIGNED["SubscriptionConfirmation"])
    text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
    try:
        key.verify(base64.b64decode(fields["Signature"], validate=True), text.encode(), padding.PKCS1v15(), algorithm())
    except (invalid, binascii.Error):
        raise _foreign("The signature does not fit the message", "Only SNS itself may send messages.") from None


def _certificate(data: bytes, url: str) -> Any:
    x509 = needed("cryptography.x509", "sns", "the signatures of SNS")
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise TransientError.wrap(
            error, f"{url} is no certificate", "It is asked again.", code="source_unavailable"
        ) from error


async def _get(url: str, problem: str) -> bytes:
    """Ask SNS for something. Redirects are not followed."""
    fix = "SNS sends the message again."
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status == 200:
                return await answer.read()
            got = f"status {answer.status}"
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise TransientError.wrap(error, problem, fix, code="source_unavailable") from error
    raise TransientError(problem, got=got, fix=fix, code="source_unavailable")


def _foreign(problem: str, fix: str, code: Code = "access_denied") -> TerminalError:
    return TerminalError(problem, fix=fix, code=code)
