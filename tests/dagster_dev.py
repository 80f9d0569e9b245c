"""A real `dagster dev` on a home: webserver, daemon and code location. The whole process group is ended after use."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.home import Home

ROOT = Path(__file__).resolve().parent.parent


class Ui:
    """The webserver of a running `dagster dev`."""

    def __init__(self, port: int, home: Home, pid: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.home = home
        self.pid = pid

    def query(self, text: str, **variables: Any) -> Any:
        """Send a GraphQL request, and return its data. Errors of the server fail the test."""
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            result = json.loads(answer.read())
        assert "errors" not in result, result["errors"]
        return result["data"]


@contextmanager
def dagster_dev(home: Home) -> Iterator[Ui]:
    """Run `dagster dev` over the results of a home, on a free port. Its log is written to the home."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (home.folder / "dagster-dev.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, **home.variables()}, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            served = Ui(port, home, server.pid)
            wait_for(lambda: is_up(served), 90, "the webserver answers")
            yield served
        finally:
            with suppress(ProcessLookupError):  # a test killed it
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def is_up(served: Ui) -> bool:
    """Return True once the code location is loaded."""
    try:
        found = served.query("{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")
    except OSError:
        return False
    entries = found["workspaceOrError"].get("locationEntries", [])
    return [(entry["name"], entry["loadStatus"]) for entry in entries] == [("taskdiv", "LOADED")]


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Poll every second until the condition is true, and fail the test after the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(1)
    pytest.fail(f"after {timeout_s:.0f} s it was still not so that {what}")
