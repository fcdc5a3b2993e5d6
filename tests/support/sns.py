"""Amazon SNS as far as a subscriber sees it: a server with a certificate, which signs messages as SNS does.

No server of a registry signs them: ministack's signature is the word FAKE. `Sns.relay` passes on what ministack sends,
signed.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

TOPIC = "arn:aws:sns:eu-west-1:000000000000:objects"
_NAMES = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


def at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.123Z"


def certificate(key: Any, days: int = 10) -> bytes:
    """A certificate that signs itself; one of negative days is past."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    end = datetime.now(UTC) + timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(end - timedelta(days=20)).not_valid_after(end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass
class Sns:
    """A server that signs messages; `asked` has the paths that it was asked for."""

    url: str = ""
    key: Any = field(default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048))
    pages: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    relayed: list[int] = field(default_factory=list)
    subscriber: str = ""
    behind: str = ""  # the server whose messages are passed on
    confirms: bool = True

    def message(self, text: str, kind: str = "Notification", version: str = "1", **fields: str | None) -> bytes:
        """A signed message. Fields that are given were there before it was signed, None for none."""
        data = {
            "Type": kind,
            "MessageId": secrets.token_hex(8),
            "TopicArn": TOPIC,
            "Message": text,
            "Timestamp": at(datetime.now(UTC)),
            "SignatureVersion": version,
            "SigningCertURL": f"{self.url}/SimpleNotificationService-0123abc.pem",
        }
        if kind == "SubscriptionConfirmation":
            data |= {"Token": "t", "SubscribeURL": f"{self.url}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t"}
        return self.signed({name: value for name, value in (data | fields).items() if value is not None})

    def signed(self, data: Mapping[str, str]) -> bytes:
        names = _NAMES.get(data["Type"], _NAMES["SubscriptionConfirmation"])
        text = "".join(f"{name}\n{data[name]}\n" for name in names if name in data).encode()
        algorithm = hashes.SHA256() if data["SignatureVersion"] == "2" else hashes.SHA1()
        if isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(text, padding.PKCS1v15(), algorithm)
        else:
            signature = self.key.sign(text, ec.ECDSA(algorithm))
        return json.dumps({**data, "Signature": base64.b64encode(signature).decode()}).encode()

    def relay(self, body: bytes, authorization: str) -> int:
        """Pass a message of another server on to the subscriber, signed."""
        data = json.loads(body)
        data["SigningCertURL"] = f"{self.url}/SimpleNotificationService-0123abc.pem"
        if "SubscribeURL" in data:
            data["SubscribeURL"] = f"{self.url}/?{data['SubscribeURL'].partition('?')[2]}"
        status = post(self.subscriber, self.signed(data), {"Authorization": authorization})
        self.relayed.append(status)
        return status

    def answer(self, path: str) -> tuple[int, bytes, str]:
        self.asked.append(path)
        if path in self.moved:
            return 302, b"", self.moved[path]
        if path.startswith("/?Action=ConfirmSubscription"):
            if self.behind:
                with urllib.request.urlopen(self.behind + path, timeout=60) as answer:
                    return answer.status, answer.read(), ""
            return 200 if self.confirms else 500, b"<xml/>", ""
        page = self.pages.get(path)
        return (404, b"", "") if page is None else (200, page, "")


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain; charset=UTF-8", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@contextmanager
def serving_sns() -> Iterator[Sns]:
    """Such a server on a free port."""
    sns = Sns()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*sns.answer(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(sns.relay(body, self.headers.get("Authorization", "")), b"", "")

        def _send(self, status: int, body: bytes, location: str) -> None:
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sns.url = f"http://127.0.0.1:{server.server_port}"
        sns.pages["/SimpleNotificationService-0123abc.pem"] = certificate(sns.key)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield sns
        finally:
            server.shutdown()
            thread.join(10)
