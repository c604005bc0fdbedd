"""A loopback HTTP server that answers what a test tells it, one reply after the other, and remembers what was asked."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        body: sent as it is.
        cut_after: bytes of the body after which the connection is cut, though Content-Length promised them all.
        stall: never answer (until the server stops).
        drip: send the body byte by byte, without end.
        hang_up: cut the connection before any answer.
        chunked: send the body as one chunk instead of by length; with `cut_after` its end is missing.
    """

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    stall: bool = False
    drip: bool = False
    hang_up: bool = False
    chunked: bool = False


@dataclass
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.asked: list[Asked] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def times_asked(self, expected: int) -> int:
        """How often it was asked, once that is as often as expected: who gives up early is heard late."""
        give_up = time.monotonic() + 30
        while len(self.asked) < expected and time.monotonic() < give_up:
            time.sleep(0.01)
        return len(self.asked)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that give up are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: v[-1] for name, v in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(parts.path, query, dict(self.headers), body)
        self.server.asked.append(asked)
        reply = self.server.answer(asked)
        if reply.stall:
            self.server.stopping.wait(30)
        if reply.stall or reply.hang_up:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.drip:
            self.end_headers()
            self.close_connection = True
            while not self.server.stopping.wait(0.01):
                self.wfile.write(b" ")
            return
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        content = reply.body[: reply.cut_after]
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(reply.body):x}\r\n".encode() + content)
            self.wfile.write(b"" if reply.cut_after is not None else b"\r\n0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(content)
        self.close_connection = reply.cut_after is not None


@contextlib.contextmanager
def serving(*replies: Reply | Callable[[Asked], Reply]) -> Iterator[ScriptedServer]:
    """Serve the replies in order, the last one for ever; or what a function makes of each request."""
    script = list(replies)

    def answer(asked: Asked) -> Reply:
        reply = script[0] if len(script) == 1 else script.pop(0)
        return reply(asked) if callable(reply) else reply

    server = ScriptedServer(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
