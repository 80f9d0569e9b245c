"""An HTTP server with the API of OpenAI's chat completions. Tests can make it return errors or wrong answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Act:
    """The server's response to one request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    is_dropped: bool = False  # half of the body, then the connection ends


def completion(content: str | None, finish_reason: str = "stop", **fields: Any) -> Act:
    """Return a completion as OpenAI sends it. `fields` are fields of the choice, except `refusal`, a field of the message."""
    message = {"role": "assistant", "content": content, "refusal": fields.pop("refusal", None)}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None, **fields}
    whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": "j", "choices": [choice]}
    whole["usage"] = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    return Act(json.dumps(whole).encode())


def top(*tokens: tuple[str, float]) -> dict[str, Any]:
    listed = [{"token": token, "logprob": nats, "bytes": None} for token, nats in tokens]
    return {"content": [{**listed[0], "top_logprobs": listed}]}


def error(status: int, message: str, code: str | None = None, **headers: str) -> Act:
    return Act(json.dumps({"error": {"message": message, "code": code, "type": "x"}}).encode(), status, headers)


class ChatServer(ThreadingHTTPServer):
    """A server that answers each request by `script(number from 0, body)`, and records the bodies."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: Callable[[int, dict[str, Any]], Act]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.arrived_at: list[float] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing if a client closes the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    server: ChatServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.server.paths.append(self.path)
            self.server.arrived_at.append(time.monotonic())
        act = self.server.script(number, body)
        time.sleep(act.wait_s)
        self.send_response(act.status)
        for name, value in {"content-type": "application/json", **act.headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(act.body)))
        self.end_headers()
        if act.is_dropped:
            self.wfile.write(act.body[: len(act.body) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)  # close() would wait for the files on it
            self.close_connection = True
        else:
            self.wfile.write(act.body)


@contextmanager
def serving(script: Callable[[int, dict[str, Any]], Act]) -> Iterator[ChatServer]:
    server = ChatServer(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
