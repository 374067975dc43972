"""A proxy that injects faults: it refuses every n-th request, delays requests, or is unavailable for a time."""

import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_OF_ONE_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Faults:
    """The faults; every field may be changed while the proxy runs. `requests` counts the requests."""

    def __init__(self):
        self.refuse_every, self.delay_seconds, self.down_until, self.requests = 0, 0.0, 0.0, 0
        self.lock = threading.Lock()

    def refuses(self) -> bool:
        """Whether this request is refused."""
        time.sleep(self.delay_seconds)
        with self.lock:
            self.requests += 1
            return time.monotonic() < self.down_until or bool(
                self.refuse_every and self.requests % self.refuse_every == 0
            )


class _Handler(BaseHTTPRequestHandler):
    target: str
    faults: Faults
    protocol_version = "HTTP/1.1"

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.faults.refuses():
            return self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
        request = urllib.request.Request(self.target + self.path, data=body or None, method=self.command)
        for name, value in self.headers.items():
            if name.lower() not in _OF_ONE_HOP:
                request.add_unredirected_header(name, value)  # Host as well: it is part of the signature of S3
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return self._answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return self._answer(error.code, error.headers, error.read())

    def _answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _OF_ONE_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", headers.get("Content-Length", "0") if self.command == "HEAD" else len(body))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        """No log line per request."""


for verb in ("GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"):
    setattr(_Handler, f"do_{verb}", _Handler._pass_on)


@contextmanager
def in_front_of(target: str, port: int = 0):
    """(address, faults) of a proxy in front of the server at `target`."""
    faults = Faults()
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (_Handler,), {"target": target, "faults": faults}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def never_answering():
    """Address of a server that accepts connections, as the kernel does for it, and sends nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
