"""A real S3-compatible HTTP server in a process of its own, and a proxy before it that fails as networks do."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

__all__ = ["KEY", "SECRET", "Proxy", "point_to", "s3_server"]

KEY, SECRET = "limpet-test-key", "limpet/test+secret"
_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
# what belongs to one connection and is not passed on
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def s3_server() -> Iterator[int]:
    """A server on a free port of 127.0.0.1; it ends with its standard input, even if this process is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def point_to(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Set the environment as the documentation says to, for an S3 server at `port`."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


class Proxy:
    """Passes requests on to a server, except the next ones of a method that were told to fail.

    Faults: `refuse` answers with 500; `cut` closes the connection half-way through the request, which is not passed
    on; `lose` passes it on and closes without the answer; `halve` passes on half of the bytes that were sent, `flip`
    changes a bit of an object that comes back; `break` closes half-way through them; `hang` never answers.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.requests: list[str] = []
        self._faults: dict[str, list[str]] = {}
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._port = 0
        self.start()

    @property
    def port(self) -> int:
        """Where the proxy listens, now or when it is started again."""
        return self._port

    @property
    def stopped(self) -> bool:
        """Whether the proxy has gone away."""
        return self._end.is_set()

    def fail(self, method: str, fault: str, times: int = 1_000_000) -> None:
        """Let the next requests of a method fail."""
        self._faults[method] = [fault] * times

    def mend(self) -> None:
        """Let nothing fail from now on."""
        self._faults.clear()
        if self.stopped:
            self.start()

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._end.clear()
        self._server = _Server(("127.0.0.1", self._port), _Handler, self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Go away: connections are refused, those that hang are closed."""
        self._end.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, method: str) -> str:
        """The fault that the next request of a method meets, empty for none."""
        with self._lock:
            self.requests.append(method)
            waiting = self._faults.get(method)
            return waiting.pop() if waiting else ""

    def hang(self) -> None:
        """Wait until the proxy is stopped."""
        self._end.wait(60)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # a thread that waits for the next request of a connection must not keep the test from its end
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(address, handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        proxy = self.server.proxy
        if proxy.stopped:
            # a connection from before it went away
            self.close_connection = True
            return
        fault = proxy.take(self.command)
        size = int(self.headers.get("Content-Length") or 0)
        if fault in ("cut", "hang", "refuse"):
            self.rfile.read(size // 2 if fault == "cut" else size)
            if fault == "hang":
                proxy.hang()
            if fault == "refuse":
                self.send_error(500)
            self.close_connection = True
            return
        body = self._body(size)
        if fault == "halve":
            body = body[: len(body) // 2]
        status, headers, answer = self._ask(body)
        if fault == "lose":
            self.close_connection = True
            return
        if fault == "flip" and "?" not in self.path:
            answer = answer[:-1] + bytes([answer[-1] ^ 1])
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if fault == "break" else answer)
        self.close_connection = fault == "break"

    def _body(self, size: int) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(size)
        body = b""
        while length := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.proxy.target, timeout=30)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            connection.request(self.command, self.path, body, {**kept, "Content-Length": str(len(body))})
            reply = connection.getresponse()
            answer = reply.read()
            headers = [(name, value) for name, value in reply.getheaders() if name.lower() not in _HOP]
            # the answer to HEAD tells the length of what is not sent
            length = reply.getheader("Content-Length") if self.command == "HEAD" else str(len(answer))
            return reply.status, [*headers, ("Content-Length", length or "0")], answer
        finally:
            connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""
