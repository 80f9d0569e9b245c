"""After `kill -9` in a benchmark, no stored answer is requested again, and scores and outputs are byte-identical."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.forked import Forked
from tests.golden import variables_of
from tests.graph import Graph, failure
from tests.home import Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("benchmark_kill"), pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
# After a few batches; before a part is written; when the answers of the first benchmark are all there, but not its scores.
POINTS = ("put answers 3 after", "put answers 20 before", "write_folder * 1 before")
RANDOM_KILLS_N = 6
QUESTIONS_N = 114 * 4 + 54
EXPERIMENT = """
name: killed
purpose: campaign
pool: {reader: table, path: prompts.csv, columns: {prompt: prompt, task: task}}
base_model: {path: SHARED/models/stories260K}
strategies: [random, task_diversity]
budgets: [1]
seeds: [0]
tuning: {learning_rate: 1.0e-3, epochs: 1}
benchmarks:
- {name: mmlu, source: SHARED/mmlu/mmlu.parquet, sample: 114}
- {name: bbh, source: SHARED/bbh/bbh.parquet, sample: 54, max_new_tokens: 20}
primary: {strategy: task_diversity, benchmark: bbh, metric: exact_match}
"""


def asking(home: Home, point: str = "") -> Forked:
    path, variables = str(home.folder / "killed.yaml"), {**os.environ, **home.variables()}
    return Forked("tests.full.benchmark_in_parts", path, point, variables=variables, folder=ROOT)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Home:
    """Return a home with a pool and a base model, without scores."""
    home = Home(tmp_path_factory.mktemp("prepared"))
    (home.folder / "prompts.csv").write_text("prompt,task\nTell me a story,tell\nSay something,say\n")
    path = home.folder / "killed.yaml"
    path.write_text(EXPERIMENT.replace("SHARED", str(shared_data)))
    with variables_of(home), dg.DagsterInstance.ephemeral() as instance:
        result = Graph(path, instance).run("pool", "raw_pool", "task_labels", "base_model")
        assert result.success, failure(result)
    return home


@pytest.fixture(scope="module")
def undisturbed(prepared: Home, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, float]:
    """Return a home whose scoring was not disturbed, and the seconds of the scoring."""
    home = copied(prepared, tmp_path_factory.mktemp("undisturbed"))
    started = time.monotonic()
    done = asking(home).wait()
    assert int(done.stdout.split("questions ")[1]) == QUESTIONS_N
    return home, time.monotonic() - started


def copied(home: Home, folder: Path) -> Home:
    shutil.copytree(home.folder, folder, dirs_exist_ok=True)
    return Home(folder)


def stored(home: Home) -> dict[str, int]:
    """Return the numbers of stored answers, in parts and in finished benchmarks."""
    root = home.folder / "results/killed"
    parts = sum(pq.read_table(path).num_rows for path in root.glob("answers/*/*.parquet"))
    done = sum(pq.read_table(path).num_rows for path in root.glob("folders/*/outputs.parquet"))
    return {"parts": parts, "done": done}


def content(home: Home) -> dict[str, bytes]:
    """Return the scores and outputs of all benchmarks, by folder."""
    root = home.folder / "results/killed/folders"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for name in ("scores", "outputs")
        for path in root.glob(f"*/{name}.parquet")
    }


def finish(home: Home, undisturbed: Home) -> None:
    """Run to the end. No stored answer may be requested again, and the results must equal those of the undisturbed run."""
    before_n = sum(stored(home).values())
    done = asking(home).wait()
    assert int(done.stdout.split("questions ")[1]) == QUESTIONS_N - before_n, "what was stored was asked again"
    assert stored(home) == {"parts": 0, "done": QUESTIONS_N}
    assert content(home) == content(undisturbed)


def test_kills_at_each_kind_of_write_lose_one_batch_and_change_nothing(
    prepared: Home, undisturbed: tuple[Home, float], tmp_path: Path
) -> None:
    home, kept = copied(prepared, tmp_path), [0]
    for point in POINTS:
        assert asking(home, point).wait().returncode == -signal.SIGKILL, point
        kept.append(sum(stored(home).values()))
    assert kept == sorted(set(kept)) and kept[-1] < QUESTIONS_N
    finish(home, undisturbed[0])


@pytest.mark.crash
def test_random_kills_change_nothing(prepared: Home, undisturbed: tuple[Home, float], tmp_path: Path) -> None:
    home, random, hits_n = copied(prepared, tmp_path), np.random.default_rng(1), 0
    for _ in range(RANDOM_KILLS_N):
        running = asking(home)
        if running.stdout.readline() != "asking\n":
            break
        time.sleep(float(random.uniform(0, undisturbed[1] / RANDOM_KILLS_N)))
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        hits_n += 0 < sum(stored(home).values()) < QUESTIONS_N
    assert hits_n >= 2, "too few kills hit the asking"
    finish(home, undisturbed[0])
