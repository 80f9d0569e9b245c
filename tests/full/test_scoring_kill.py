"""After `kill -9` in scoring, no stored prompt is scored again, and the table is byte-identical."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.forked import Forked
from tests.golden import variables_of
from tests.graph import Graph, failure
from tests.home import Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("scoring_kill"), pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
POINTS = ("put scores 1 before", "put scores 3 after", "put scores 8 before", "write_table * 1 before")
RANDOM_KILLS_N = 10


class Undisturbed(NamedTuple):
    """A home whose scoring was not disturbed, the number of its prompts, and the seconds of the scoring."""

    home: Home
    pool_n: int
    scoring_s: float


def scored_in_parts(home: Home, point: str = "") -> Forked:
    path, variables = str(home.folder / "killed.yaml"), {**os.environ, **home.variables()}
    return Forked("tests.full.score_in_parts", path, point, variables=variables, folder=ROOT)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home with 1,553 prompts and a base model that needs some seconds to score them. No prompt is scored yet."""
    home = Home(tmp_path_factory.mktemp("prepared"))
    path = home.write_experiment(
        "killed",
        ("largest_n: 40, smallest_n: 12", "largest_n: 500, smallest_n: 100"),
        ("max_new_tokens: 6", "max_new_tokens: 40"),
        ("hidden_size: 32, layers: 2", "hidden_size: 96, layers: 4"),
    )
    with variables_of(home), dg.DagsterInstance.ephemeral() as instance:
        result = Graph(path, instance).run("pool", "raw_pool", "task_labels", "base_model")
        assert result.success, failure(result)
    return home


@pytest.fixture(scope="module")
def undisturbed(prepared: Home, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    home = copied(prepared, tmp_path_factory.mktemp("undisturbed"))
    running = scored_in_parts(home)
    assert running.stdout.readline() == "scoring\n"
    started = time.monotonic()
    assert running.stdout.readline() == "scored\n"
    scoring_s = time.monotonic() - started
    return Undisturbed(home, int(running.wait().stdout.split("asked ")[1]), scoring_s)


def copied(home: Home, folder: Path) -> Home:
    shutil.copytree(home.folder, folder, dirs_exist_ok=True)
    return Home(folder)


def content(home: Home) -> bytes:
    """Return the bytes of the table without its footer, which contains times."""
    table = pq.read_table(home.folder / "results/killed/tables/confidence_table.parquet").replace_schema_metadata(None)
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return out.getvalue()


def stored_n(home: Home) -> int:
    """Return the number of different prompts in complete parts."""
    found: set[str] = set()
    for path in (home.folder / "results/killed/scores").rglob("*.parquet"):
        found |= set(pq.read_table(path)["prompt_id"].to_pylist())
    return len(found)


def finish(home: Home, undisturbed: Undisturbed) -> None:
    """Run to the end. No stored prompt may be scored again, and the table must equal that of the undisturbed run."""
    before_n = stored_n(home)
    done = scored_in_parts(home).wait()
    assert int(done.stdout.split("asked ")[1]) == undisturbed.pool_n - before_n, "what was stored was scored again"
    assert content(home) == content(undisturbed.home)


def test_kills_at_each_kind_of_write_lose_one_batch_and_change_nothing(
    prepared: Home, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Kill before anything is stored, after one part, before another, and when all is scored but the table is not written."""
    home, kept = copied(prepared, tmp_path), []
    for point in POINTS:
        assert scored_in_parts(home, point).wait().returncode == -signal.SIGKILL, point
        kept.append(stored_n(home))
    assert 0 == kept[0] < kept[1] < kept[2] < kept[3] == undisturbed.pool_n
    finish(home, undisturbed)


@pytest.mark.crash
def test_random_kills_change_nothing(prepared: Home, undisturbed: Undisturbed, tmp_path: Path) -> None:
    home, random, kept = copied(prepared, tmp_path), np.random.default_rng(0), [0]
    for _ in range(RANDOM_KILLS_N):
        running = scored_in_parts(home)
        line = running.stdout.readline()
        if line.startswith("asked"):
            break  # all was there
        assert line == "scoring\n"
        time.sleep(float(random.uniform(0, 2 * undisturbed.scoring_s / RANDOM_KILLS_N)))
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        kept.append(stored_n(home))
    assert kept == sorted(kept)
    assert len({n for n in kept if 0 < n < undisturbed.pool_n}) >= 2, (
        f"too few kills hit the scoring: {kept} of {undisturbed.pool_n}"
    )
    finish(home, undisturbed)
