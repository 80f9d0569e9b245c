"""A run on an S3 server gives the same rankings, allocations and scores as a run on a local disk."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.home import MINIATURE, Home
from tests.s3 import S3Home, objects

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("s3")]


def without_seconds(table: pa.Table) -> pa.Table:
    """Return a table without its footer and without the columns of durations."""
    return table.replace_schema_metadata(None).select([name for name in table.column_names if name != "score_s"])


def test_a_run_on_s3_equals_one_on_a_local_disk(
    computed: Home, tmp_path_factory: pytest.TempPathFactory, endpoint: str
) -> None:
    there = S3Home(tmp_path_factory.mktemp("remote"), endpoint)
    until = ("--strategy", "facility_location", "--budget", "12", "--workers", "2")
    result = there.taskdiv("run", str(MINIATURE), *until)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("s3://bucket/prefix/miniature/report/index.html")
    fs, root = objects(endpoint), "bucket/prefix/miniature/tables/"
    compared = [path.removeprefix(root) for path in fs.find(root) if path.endswith(".parquet")]
    compared = [name for name in compared if not name.startswith("adapter/")]
    assert len(compared) >= 11
    for name in compared:
        with fs.open(root + name, "rb") as file:
            remote = without_seconds(pq.read_table(file))
        local = pq.read_table(computed.folder / "results/miniature/tables" / name)
        assert remote.equals(without_seconds(local)), name
    assert fs.ls("bucket/prefix/miniature/locks") == [] if fs.exists("bucket/prefix/miniature/locks") else True
    again = there.taskdiv("run", "miniature", *until)
    assert again.returncode == 0 and "everything is up to date" in again.stderr, again.stderr
