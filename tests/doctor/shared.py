"""Helpers for several checks: experiments, a secret, stores that fail, and a hub on loopback."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from taskdiv_assets.commands.doctor.findings import Finding
from taskdiv_assets.experiment import Experiment, experiment_file
from tests.home import MINIATURE

JUDGE = ("[{name: lab}]", "[{name: lab}, {name: alpaca_eval, judge: {model: gpt-9, calls: 805}}]")
NOWHERE = Path("/proc/taskdiv")  # takes no file from anybody, root included
KEY = "sk-0123456789abcdef"


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def experiment(*replacements: tuple[str, str]) -> Experiment:
    text = MINIATURE.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    return experiment_file.parse(text, str(MINIATURE))


class Overwriting(MemoryFileSystem):
    """A store without conditional writes, as in older object stores."""

    protocol = "overwriting"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value, mode="overwrite")


class Refusing(MemoryFileSystem):
    """A store whose error message contains secrets."""

    protocol = "refusing"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        raise RuntimeError(f"request to https://me:pass@host/{path}\nwith {KEY} was denied.")


class Hanging(MemoryFileSystem):
    """A store that does not answer."""

    protocol = "hanging"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        time.sleep(1)


for kind in (Overwriting, Refusing, Hanging):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)


class Hub(BaseHTTPRequestHandler):
    """A server that answers with the status in the path, and records the requests."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Hub.seen.append(f"{self.path} {self.headers}")
        if "/slow/" in self.path:
            time.sleep(1)
        with suppress(ConnectionError):  # whoever asked may be gone
            self.send_response(int(re.search(r"\d{3}", self.path)[0]) if re.search(r"\d{3}", self.path) else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        """Print nothing."""
