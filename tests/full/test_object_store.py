"""The same graph against a real S3 endpoint on loopback: the same rankings, allocations and scores as on a local disk."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.home import MINIATURE, Home
from tests.s3 import S3Home, moto, objects

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("s3")]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto(tmp_path_factory.mktemp("s3") / "moto.log") as url:
        yield url


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
    fs = objects(endpoint)
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
