"""moto's S3 server on loopback: environment variables that lead to it, a home in its bucket, and access to its objects."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.faults import Proxy
from tests.home import Home

BUCKET = "bucket"


@contextmanager
def moto(log: Path) -> Iterator[str]:
    """Start the server in a new process with one bucket, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file
        )
    try:
        wait_for_port(port)
        objects(f"http://127.0.0.1:{port}").call_s3("create_bucket", Bucket=BUCKET)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def wait_for_port(port: int, timeout_s: float = 60) -> None:
    """Wait until a server listens on the port."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"nothing listens on port {port}")


def variables(endpoint: str) -> dict[str, str]:
    """Return the environment variables that lead s3fs to an endpoint."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def objects(endpoint: str) -> Any:
    """Return a file system that shares no cached instance with the code under test."""
    return fsspec.filesystem(
        "s3",
        key="test",
        secret="test",
        endpoint_url=endpoint,
        client_kwargs={"region_name": "us-east-1"},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process during the block, and drop s3fs's cached instances, which know another endpoint."""
    s3fs = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        s3fs.clear_instance_cache()
        yield
    s3fs.clear_instance_cache()


@contextmanager
def proxied(endpoint: str, **options: Any) -> Iterator[Proxy]:
    """Start a proxy in front of a server, and set this process's variables to the proxy."""
    with Proxy(endpoint, **options) as proxy, environment(variables(proxy.url)):
        yield proxy


class S3Home(Home):
    """Results in a bucket, Dagster's records on the local disk."""

    def __init__(self, folder: Path, endpoint: str, url: str = f"s3://{BUCKET}/prefix") -> None:
        super().__init__(folder)
        self.endpoint, self.url = endpoint, url

    def variables(self) -> dict[str, str]:
        return {
            **super().variables(),
            **variables(self.endpoint),
            "TASKDIV_HOME": self.url,
            "TASKDIV_CACHE": str(self.folder / "cache"),
        }
