"""`kill -9` in the middle: the rerun continues where it stopped, and ends with the results of an undisturbed run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.home import MINIATURE, Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("kill")]
COMPARED = ("ranking", "allocation", "annotation_batch", "benchmark_scores")


def tables(home: Home, names: tuple[str, ...] = COMPARED) -> dict[str, pa.Table]:
    """Stored tables without their footers (those carry times)."""
    root = home.folder / "results/miniature/tables"
    paths = [path for name in names for path in (root / name).rglob("*.parquet")]
    paths += [root / f"{name}.parquet" for name in ("confidence_table", "task_confidence", "base_scores")]
    return {str(path.relative_to(root)): pq.read_table(path).replace_schema_metadata(None) for path in sorted(paths)}


def adapter_hashes(home: Home) -> dict[str, list[str]]:
    """sha256 of every adapter, by cell."""
    root = home.folder / "results/miniature/tables/adapter"
    return {str(p.relative_to(root)): pq.read_table(p)["sha256"].to_pylist() for p in sorted(root.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A run from nothing that nobody disturbs."""
    home = Home(tmp_path_factory.mktemp("undisturbed"))
    result = home.taskdiv("run", str(MINIATURE), "--workers", "2")
    assert result.returncode == 0, result.stderr
    return home


def wait_for_files(pattern: str, root: Path, count_n: int, timeout_s: float = 240) -> list[Path]:
    """Wait until a run has got somewhere."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = list(root.glob(pattern))
        if len(found) >= count_n:
            return found
        time.sleep(0.1)
    pytest.fail(f"{pattern} never appeared {count_n} times below {root}")


@pytest.mark.parametrize(
    ("pattern", "count_n"),
    [("locks/*", 1), ("tables/ranking/*.parquet", 1), ("tables/adapter/*/*.parquet", 2)],
    ids=["at the first lock", "among the rankings", "among the adapters"],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_results(
    undisturbed: Home, tmp_path: Path, pattern: str, count_n: int
) -> None:
    home = Home(tmp_path)
    root = home.folder / "results/miniature"
    running = home.start("run", str(MINIATURE), "--workers", "2")
    wait_for_files(pattern, root, count_n)
    os.killpg(running.pid, signal.SIGKILL)  # the command, its workers, everything
    running.wait(10)
    finished = {path: path.stat().st_mtime_ns for path in root.glob("folders/*/manifest.json")}
    for path in root.rglob("*.parquet"):
        pq.read_table(path)  # whatever stands there is whole
    started = time.monotonic()
    result = home.taskdiv("run", str(MINIATURE), "--workers", "2")
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 240
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "something finished was done again"
    assert list(tables(home)) == list(tables(undisturbed))
    for name, table in tables(undisturbed).items():
        assert tables(home)[name].equals(table), name
    assert adapter_hashes(home) == adapter_hashes(undisturbed)
    assert not list(root.glob("locks/*"))


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    running = home.start("run", str(MINIATURE), "--workers", "2")
    wait_for_files("tables/ranking/*.parquet", home.folder / "results/miniature", 1)
    os.killpg(running.pid, signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 130, out
    assert "continues where it stopped" in out
    again = home.taskdiv("run", str(MINIATURE), "--workers", "2")
    assert again.returncode == 0, again.stderr


def test_a_killed_worker_is_named_and_what_was_done_is_kept(tmp_path: Path) -> None:
    home = Home(tmp_path)
    running = home.start("run", str(MINIATURE), "--workers", "1")
    wait_for_files("tables/ranking/*.parquet", home.folder / "results/miniature", 1)
    workers = [pid for pid in children(running.pid) if b"worker_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 2
    assert "a worker process died" in out and "Traceback" not in out
    assert home.taskdiv("run", str(MINIATURE), "--workers", "2").returncode == 0


def children(pid: int) -> list[int]:
    """Child processes of a process, as Linux lists them."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(part) for part in text.split()]
