#!/opt/venv/bin/python
"""`milvus run standalone` of the stand-in: Milvus Lite's server, and the page that says it is well."""

import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from milvus_lite.adapter.grpc.server import run_server


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


signal.signal(signal.SIGTERM, signal.default_int_handler)
Thread(target=ThreadingHTTPServer(("0.0.0.0", 9091), Healthy).serve_forever, daemon=True).start()
run_server("/var/lib/milvus/lite", "0.0.0.0", 19530, 1)  # one thread: see ingestlab.stack.milvus
