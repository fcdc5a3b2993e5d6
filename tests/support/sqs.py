"""SQS as it refuses what it is asked: a double, since ministack allows everything to everybody."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

KEYS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "hidden"}
REFUSALS = pytest.mark.parametrize(
    ("status", "code", "ours", "fix"),
    [
        (400, "QueueDoesNotExist", "not_found", "region"),
        (403, "AccessDeniedException", "access_denied", "ReceiveMessage"),
        (403, "InvalidClientTokenId", "credentials_invalid", "AWS_ACCESS_KEY_ID"),
        (403, "ExpiredTokenException", "credentials_invalid", "AWS_SESSION_TOKEN"),
        (403, "SignatureDoesNotMatch", "credentials_invalid", "the clock of this machine"),
        (403, "InvalidSignatureException", "credentials_invalid", "the clock of this machine"),
    ],
)


@contextmanager
def refusing(status: int, code: str, answers: Mapping[str, Any] | None = None) -> Iterator[str]:
    """A server that refuses each call but those that have an answer at the time, by name; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = (answers or {}).get(self.headers["X-Amz-Target"].partition(".")[2])
            refusal = {"__type": f"com.amazonaws.sqs#{code}", "message": "no"}
            body = json.dumps(refusal if answer is None else answer).encode()
            self.send_response(status if answer is None else 200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)
