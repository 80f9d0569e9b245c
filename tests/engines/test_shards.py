"""Shards of a pool: they are always the same, are read by row groups, and are continued after a worker has died."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.footer import Footer
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.services import scoring, shards
from taskdiv_assets.services.scoring import PromptScores, shard_scorer
from taskdiv_assets.services.shards import SHARD_PROMPTS_LEAST_N, SHARD_PROMPTS_N, cut, pool_rows
from taskdiv_assets.storage import parts as stored_parts
from taskdiv_assets.storage import store as stores
from tests.graph import Graph, failure
from tests.home import MINIATURE, Home

pytestmark = pytest.mark.xdist_group("shards")
IDS = np.array([f"{i:016x}" for i in range(20_000)])
ROW_GROUP_N = stores.ROW_GROUP_N


@given(st.integers(1, 20_000), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_shards_are_the_rows_in_order_and_within_bounds(rows_n: int, workers_n: int, seed: int) -> None:
    rows = np.sort(np.random.default_rng(seed).choice(len(IDS), rows_n, replace=False))
    found = cut(rows, IDS, workers_n)
    assert np.array_equal(np.concatenate([shard.rows for shard in found]), rows)
    sizes = [len(shard.rows) for shard in found]
    assert max(sizes) <= SHARD_PROMPTS_N and all(n >= SHARD_PROMPTS_LEAST_N for n in sizes[:-1])
    assert len({shard.name for shard in found}) == len(found)
    assert [shard.name for shard in cut(rows, IDS, workers_n)] == [shard.name for shard in found]


def test_the_name_follows_from_the_prompts() -> None:
    rows = np.arange(300)
    (first,) = cut(rows, IDS, 1)[:1]
    assert first.name == cut(rows, IDS.copy(), 1)[0].name
    assert first.name != cut(rows, IDS[::-1].copy(), 1)[0].name


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """Return the miniature with its base model and its pool in row groups of 50."""
    home = Home(tmp_path_factory.mktemp("shards"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        patch.setattr(stores, "ROW_GROUP_N", 50)
        graph = Graph(MINIATURE, instance)
        result = graph.run("pool", "raw_pool", "task_labels", "base_model")
        assert result.success, failure(result)
        yield graph


def work_of(graph: Graph, asset: str = "confidence_table") -> Work:
    lineage = graph.lineage()
    return Work(graph.experiment, graph.store, lineage, Unit(asset), lineage.expect(Unit(asset)), print)


@pytest.mark.parametrize("rows", [[0], [49, 50], [3, 77, 78, 140], list(range(0, 130, 7))])
def test_rows_are_read_from_the_groups_that_hold_them(graph: Graph, rows: list[int]) -> None:
    pool = graph.store.read_table("raw_pool").table
    ids, prompts = pool_rows(work_of(graph), np.array(rows))
    assert ids == pool["prompt_id"].take(pa.array(rows)).to_pylist()
    assert prompts == pool["prompt"].take(pa.array(rows)).to_pylist()


def test_a_pool_that_was_replaced_is_told(graph: Graph) -> None:
    work = work_of(graph)
    stored = graph.store.read_table("raw_pool")
    work.lineage.fresh(Unit("raw_pool"))  # as the worker found it when it began
    try:
        graph.store.write_table(stored.table, Footer(**{**vars(stored.footer), "identity": "another"}))
        with pytest.raises(StaleInputError, match="raw_pool was replaced"):
            pool_rows(work, np.array([0]))
    finally:
        graph.store.write_table(stored.table, stored.footer)


def shared_out(work: Work, make: Any, found: list[shards.Shard], workers_n: int) -> Iterator[dict[str, Any]]:
    """Execute each shard as one task, as Ray does."""
    for shard in found:
        yield {**make(work)(shard), "shard": shard.name, "worker": 0}


def test_shards_score_what_the_step_alone_scores(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    work, settings = work_of(graph), graph.experiment.confidence
    monkeypatch.setattr(shards, "share_out", shared_out)
    monkeypatch.setattr(shards, "SHARD_PROMPTS_LEAST_N", 20)
    monkeypatch.setenv("TASKDIV_SCORERS", "2")
    together = PromptScores.of_pool(work, settings, "scoring")
    everything = np.ones(len(together.prompt_ids), np.bool_)
    together.score(everything)
    names = graph.store.names_below("scores", together.identity)
    assert len({name.split("/")[0] for name in names}) > 2, "the pool was not cut"
    again = PromptScores.of_pool(work, settings, "scoring")
    assert again.is_known.all()
    for name in names:
        graph.store.remove("scores", together.identity, *name.split("/"))
    monkeypatch.delenv("TASKDIV_SCORERS")
    alone = PromptScores.of_pool(work, settings, "scoring")
    assert not alone.is_known.any()
    alone.score(everything)
    for name, values in alone.columns.items():
        assert np.array_equal(values, together.columns[name], equal_nan=values.dtype.kind == "f"), name
        assert np.array_equal(values, again.columns[name], equal_nan=values.dtype.kind == "f"), name


def test_a_shard_that_is_taken_over_scores_only_what_is_left(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    work, settings = work_of(graph), graph.experiment.confidence.model_copy(update={"of": "prompt"})  # other scores
    monkeypatch.setattr(stored_parts, "PART_ROWS_N", 1)  # a part a batch
    found = cut(np.arange(100), PromptScores.of_pool(work, settings, "").prompt_ids, 1)[0]
    done, put = [], PromptScores._put

    def dies(self: PromptScores, waiting: list[Any]) -> None:
        put(self, waiting)
        done.append(int(self.is_known.sum()))
        if len(done) == 1:
            raise KeyboardInterrupt  # as near to a kill as one process comes

    monkeypatch.setattr(PromptScores, "_put", dies)
    with pytest.raises(KeyboardInterrupt):
        shard_scorer(work, settings)(found)
    monkeypatch.setattr(PromptScores, "_put", put)
    asked: list[int] = []
    original = scoring.Scorer.run

    def counting(self: Any, is_known: Any = None) -> Any:
        asked.append(int((~is_known).sum()))
        return original(self, is_known)

    monkeypatch.setattr(scoring.Scorer, "run", counting)
    assert partial(shard_scorer, source=settings)(work)(found)["prompts_n"] == 100
    assert 0 < done[0] < 100 and asked == [100 - done[0]]


READ_ONE_SHARD = """
import resource, sys
from types import SimpleNamespace
import numpy as np
from taskdiv_assets.services.shards import pool_rows
from taskdiv_assets.storage.store import Store
store = Store("large", sys.argv[1])
identity = store.read_footer("raw_pool").identity
lineage = SimpleNamespace(fresh=lambda unit: SimpleNamespace(identity=identity))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ids, _ = pool_rows(SimpleNamespace(store=store, lineage=lineage, unit="test"), np.arange(int(sys.argv[2]), int(sys.argv[2]) + 4096))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, len(ids))
"""


@pytest.mark.full
def test_a_workers_memory_does_not_grow_with_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last shard of eight row groups takes as much memory as that of one, although the pool holds eight times the text."""
    monkeypatch.setattr(stores, "ROW_GROUP_N", ROW_GROUP_N)  # as it is, not as the graph above has it
    used_mib = {}
    for groups_n in (1, 8):
        rows_n = groups_n * ROW_GROUP_N
        generator = np.random.default_rng(0)
        prompts = [generator.bytes(300).hex() for _ in range(rows_n)]
        table = pa.table({"prompt_id": [f"{i:016x}" for i in range(rows_n)], "prompt": prompts, "response": prompts})
        store = stores.Store("large", str(tmp_path / str(groups_n)))
        footer = Footer("raw_pool", None, "i" * 32, {}, 1, None, "", "", 0.0)
        store.write_table(table, footer)
        command = [sys.executable, "-c", READ_ONE_SHARD, str(tmp_path / str(groups_n)), str(rows_n - 4096)]
        mib, read_n = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(read_n) == 4096
        used_mib[groups_n] = float(mib)
    assert used_mib[8] < 1.25 * used_mib[1] + 10, used_mib
