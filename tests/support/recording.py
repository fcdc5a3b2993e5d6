"""A server on a bare socket: it records what came to the byte, and says what it is told to, right or wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

Answer = bytes | Callable[[bytes], bytes]


@dataclass
class Recorder:
    """Gives `answers` in order, the last one again and again; a callable answer is shown the request.

    An answer that ends in ``CUT`` is followed by the end of the connection.
    """

    answers: Sequence[Answer]
    requests: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.close()

    def url(self, target: str) -> str:
        """The address of a target, which must begin with a slash."""
        return f"http://127.0.0.1:{self.port}{target}"

    @property
    def lines(self) -> list[str]:
        """The targets of the requests, as they came."""
        return [request.split(b"\r\n")[0].decode("latin-1").split(" ")[1] for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            seen = b""
            while True:
                while b"\r\n\r\n" not in seen:
                    try:
                        data = client.recv(65536)
                    except OSError:
                        return
                    if not data:
                        return
                    seen += data
                request, _, seen = seen.partition(b"\r\n\r\n")
                with self._lock:
                    self.requests.append(request)
                    answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                said = answer(request) if callable(answer) else answer
                client.sendall(said.removesuffix(CUT))
                if said.endswith(CUT):
                    return


CUT = b"<the end of the connection>"


def answer(body: bytes, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """An answer; names of headers have `_` for `-`; `length` is what Content-Length says, if that is not true."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
