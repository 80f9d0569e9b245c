"""A proxy for an S3 server that fails like real servers. Faults depend on a seed and are counted, and every request is recorded.

The proxy also corrects moto. S3 checks and writes a conditional put in one step, but moto checks first and writes later. So the
proxy forwards one change at a time.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

BUSY = "answered 503"
DROPPED = "dropped before it was forwarded"
CUT_ANSWER = "dropped in the middle of the answer's body"
CUT_UPLOAD = "dropped in the middle of the body that was put"
LOST_ANSWER = "done, but the answer was dropped"
KINDS = (BUSY, DROPPED, CUT_ANSWER, CUT_UPLOAD, LOST_ANSWER)
CHANGES = ("PUT", "POST", "DELETE")
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message><RequestId>0</RequestId></Error>"
)
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


class Request(NamedTuple):
    """One received request."""

    method: str
    path: str  # /bucket/key
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body_n: int
    fault: str | None


class Proxy:
    """A proxy that forwards every request to a server, except where a fault occurs.

    Args:
        server: address of the server.
        rates: share of requests with a fault, by kind; only requests that can have this kind of fault count.
        seed: seed of the faults.
        delay_s: delay of each request.
    """

    def __init__(
        self, server: str, *, rates: Mapping[str, float] | None = None, seed: int = 0, delay_s: float = 0
    ) -> None:
        self.server, self.rates, self.delay_s = urlsplit(server), dict(rates or {}), delay_s
        self.requests: list[Request] = []
        self.counts: Counter[str] = Counter()
        self._random, self._guard, self.change = random.Random(seed), threading.Lock(), threading.Lock()
        proxy = self

        class Handler(_Handler):
            of = proxy

        self._http = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def draw(self, method: str, body_n: int) -> str | None:
        """Return the fault of a request; None without a fault."""
        can = {
            BUSY: True,
            DROPPED: True,
            CUT_ANSWER: method == "GET",
            CUT_UPLOAD: method == "PUT" and body_n > 1,
            LOST_ANSWER: method in CHANGES,
        }
        with self._guard:
            for kind, rate in self.rates.items():
                if can[kind] and self._random.random() < rate:
                    return kind
        return None

    def note(self, request: Request) -> None:
        with self._guard:
            self.requests.append(request)
            if request.fault:
                self.counts[request.fault] += 1

    def listings(self) -> list[Request]:
        """Return the requests that list objects."""
        return [one for one in self.requests if one.method == "GET" and "list-type" in one.query]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # 5 by default: 32 threads that connect at once would wait a second each


class _Handler(BaseHTTPRequestHandler):
    of: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        if self.of.delay_s:
            time.sleep(self.of.delay_s)
        try:
            body_n = int(self.headers.get("Content-Length") or 0)
            fault = self.of.draw(self.command, body_n)
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            assert "transfer-encoding" not in headers, "bodies of unknown length are not forwarded"
            body = self.rfile.read(body_n // 2 if fault == CUT_UPLOAD else body_n)
            self.of.note(Request(self.command, unquote(parts.path), query, headers, body_n, fault))
            self._fail_or_forward(fault, body, body_n)
        except OSError:  # the client has gone
            self._hang_up()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815  # http.server looks methods up by these names

    def _fail_or_forward(self, fault: str | None, body: bytes, body_n: int) -> None:
        if fault == BUSY:
            self._answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
        elif fault == DROPPED:
            self._hang_up()
        elif fault == CUT_UPLOAD:
            self._forward_half(body, body_n)
            self._hang_up()
        else:
            status, headers, answer = self._forward(body)
            if fault == LOST_ANSWER:
                self._hang_up()
            elif fault == CUT_ANSWER:
                self._answer(status, headers, answer, cut=True)
                self._hang_up()
            else:
                self._answer(status, headers, answer)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.command in CHANGES:
            with self.of.change:
                return self._ask(body)
        return self._ask(body)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        server = http.client.HTTPConnection(str(self.of.server.hostname), self.of.server.port, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            server.request(self.command, self.path, body if self.command in CHANGES else None, headers)
            response = server.getresponse()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            if self.command == "HEAD" and response.getheader("Content-Length"):
                kept["Content-Length"] = str(response.getheader("Content-Length"))
            return response.status, kept, response.read()
        finally:
            server.close()

    def _forward_half(self, body: bytes, body_n: int) -> None:
        """Start the same request at the server, and close the connection in the middle of its body."""
        with socket.create_connection((str(self.of.server.hostname), self.of.server.port), timeout=60) as server:
            lines = [f"{self.command} {self.path} HTTP/1.1", *(f"{n}: {v}" for n, v in self.headers.items())]
            server.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing. `requests` has all requests."""
