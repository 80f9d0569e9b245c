"""The same graph against a real S3 endpoint on loopback: the same rankings, allocations and scores as on a local disk."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.home import MINIATURE, Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("s3")]


class S3Home(Home):
    """Results in a bucket, Dagster's records on the local disk."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        super().__init__(folder)
        self.endpoint = endpoint

    def variables(self) -> dict[str, str]:
        return {
            **super().variables(),
            "TASKDIV_HOME": "s3://bucket/prefix",
            "TASKDIV_CACHE": str(self.folder / "cache"),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's S3 server on a free loopback port, with one bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "moto.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for_port(port)
        import s3fs

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            s3fs.S3FileSystem(key="test", secret="test", endpoint_url=url).mkdir("bucket")
        yield url
    finally:
        server.terminate()
        server.wait(10)
        log.close()


def wait_for_port(port: int, timeout_s: float = 60) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"nothing listens on port {port}")


def without_seconds(table: pa.Table) -> pa.Table:
    """A table but for its footer and for how long something took."""
    return table.replace_schema_metadata(None).select([name for name in table.column_names if name != "score_s"])


def test_a_run_on_s3_equals_one_on_a_local_disk(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> None:
    here = Home(tmp_path_factory.mktemp("local"))
    there = S3Home(tmp_path_factory.mktemp("remote"), endpoint)
    until = ("--strategy", "random", "--strategy", "facility_location", "--budget", "12", "--workers", "2")
    for home in (here, there):
        result = home.taskdiv("run", str(MINIATURE), *until)
        assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("s3://bucket/prefix/miniature/report/index.html")
    import s3fs

    fs = s3fs.S3FileSystem(key="test", secret="test", endpoint_url=endpoint)
    local = here.folder / "results/miniature"
    compared = [p for p in sorted((local / "tables").rglob("*.parquet")) if p.parent.parent.name != "adapter"]
    assert len(compared) >= 12
    for path in compared:
        with fs.open(f"bucket/prefix/miniature/{path.relative_to(local)}", "rb") as file:
            remote = without_seconds(pq.read_table(file))
        assert remote.equals(without_seconds(pq.read_table(path))), path
    assert fs.ls("bucket/prefix/miniature/locks") == [] if fs.exists("bucket/prefix/miniature/locks") else True
    again = there.taskdiv("run", "miniature", *until)
    assert again.returncode == 0 and "everything is up to date" in again.stderr, again.stderr
