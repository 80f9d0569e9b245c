"""A real pool like FLAN's: T0 with FLAN files, 306 tasks of 8 to 7,473 prompts. Real budgets use up many tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.frame import RawPool
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.selection import STRATEGIES, SelectionPool, parse_prompt_ids, rank, strata, streams
from taskdiv_assets.selection.apportionment import allocate
from tests.home import EXPERIMENTS, Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("real_pools")]

SOURCE = EXPERIMENTS / "flan_stories.yaml"
FILES = ("t0/t0_pool.parquet", "flan/flan_v2_cot.parquet", "flan/flan2021_subset.parquet")
BUDGETS = (1000, 3000, 10_000, 20_000, 30_000, 48_314, 70_000, 90_000)
COSTS = {
    "task_diversity": strata.equal_costs,
    "weighted_task_diversity": strata.confidence_costs,
    "complement_weighted_task_diversity": strata.complement_costs,
    "weighted_task_diversity_min_margin": strata.confidence_costs,
}


@pytest.fixture(scope="module")
def frame(shared_data: Path) -> pd.DataFrame:
    """Return the rows of the three files as pandas reads them."""
    parts = [pd.read_parquet(shared_data / name).rename(columns={"answer": "output"}) for name in FILES]
    return pd.concat([part[["id", "task", "instruction", "output"]] for part in parts], ignore_index=True)


@pytest.fixture(scope="module")
def pool(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RawPool:
    """Return the pool as the experiment file describes it."""
    path = tmp_path_factory.mktemp("experiment") / SOURCE.name
    path.write_text(SOURCE.read_text().replace("../../../shared/data", str(shared_data)))
    return read_pool(experiment_file.load(str(path)).pool)


def test_the_whole_pool_is_read_and_labelled(pool: RawPool, frame: pd.DataFrame) -> None:
    assert pool.table.num_rows == pool.rows_read_n == len(frame) == 96_628
    assert (pool.dropped_n, pool.drops) == (0, {})
    blank_n = int((frame["output"].str.strip() == "").sum())
    assert pool.repairs == {"blank_response": blank_n} and blank_n == 1400
    assert pool.table.column("response").null_count == blank_n
    assert pool.duplicates_n == int(frame["instruction"].duplicated().sum())
    tasks = labels.from_column(pool.table)["task"].to_pandas().value_counts()
    assert tasks.to_dict() == frame["task"].value_counts().to_dict()
    assert (len(tasks), tasks.min(), tasks.max()) == (306, 8, 7473)
    rows = pool.table.to_pandas().set_index("source_id").loc[frame["id"]]
    assert (rows["prompt"].to_numpy() == frame["instruction"].to_numpy()).all()
    assert (rows["source_task"].to_numpy() == frame["task"].to_numpy()).all()


@pytest.fixture(scope="module")
def selection(pool: RawPool) -> SelectionPool:
    """Return real ids and tasks with random confidences and margins. Scoring 96,628 prompts would take half an hour."""
    names, codes = np.unique(labels.from_column(pool.table)["task"].to_pylist(), return_inverse=True)
    draw = np.random.default_rng(0)
    return SelectionPool(
        prompt_ids=parse_prompt_ids(pool.table["prompt_id"].to_pylist()),
        tasks=codes.astype(np.int32),
        task_names=tuple(str(name) for name in names),
        task_confidence=draw.uniform(0.2, 1.0, len(names)).round(2),
        scores={"min_margin": draw.uniform(size=len(codes))},
    )


@pytest.mark.parametrize("name", COSTS)
def test_stratified_orders_of_the_real_sizes_keep_every_promise(name: str, selection: SelectionPool) -> None:
    """Compare each prefix of the order with `allocate`, at budgets where none, some, most and all tasks are used up."""
    order = rank(name, selection, seed=3)
    sizes = np.bincount(selection.tasks)
    n, tasks_n = len(order), len(sizes)
    assert (np.sort(order) == np.arange(n)).all()
    ended = np.zeros(tasks_n, np.int64)  # the budget that buys the last prompt of a task
    ended[selection.tasks[order]] = np.arange(1, n + 1)
    by_seed = np.argsort(streams.shuffled_positions(3, streams.TASK_ORDER, selection.task_names))
    before = np.zeros(tasks_n, np.int64)
    used_up_n = {}
    for budget in (1, tasks_n - 1, tasks_n, tasks_n + 1, *BUDGETS, n - 1, n):
        counts = np.bincount(selection.tasks[order[:budget]], minlength=tasks_n)
        expected = np.empty_like(counts)  # the seed's shuffle of the tasks breaks ties of cost
        expected[by_seed] = allocate(COSTS[name](selection)[by_seed], sizes[by_seed], budget)
        assert (counts == expected).all()
        assert counts.sum() == budget and (counts <= sizes).all() and (counts >= before).all()
        assert {selection.task_names[t] for t in np.flatnonzero(counts == sizes)} == {
            selection.task_names[t] for t in np.flatnonzero(ended <= budget)
        }
        used_up_n[budget] = int((counts == sizes).sum())
        before = counts
    assert used_up_n[tasks_n] == 0 < used_up_n[10_000] < used_up_n[48_314] < used_up_n[90_000] < tasks_n == used_up_n[n]


def test_a_round_robin_uses_up_exactly_the_tasks_below_the_water(selection: SelectionPool, frame: pd.DataFrame) -> None:
    """Compare with a second definition: each task gives min(size, c) prompts, or one more, for the c that fits the budget."""
    order = rank("task_diversity", selection, seed=0)
    sizes = frame["task"].value_counts()
    for budget in (3000, 10_000, 30_000, 48_314):
        bought = pd.Series(np.array(selection.task_names)[selection.tasks[order[:budget]]]).value_counts()
        level = max(c for c in range(budget // 300 * 3) if np.minimum(sizes.to_numpy(), c).sum() <= budget)
        used_up = set(sizes.index[bought.reindex(sizes.index, fill_value=0) == sizes])
        assert set(sizes.index[sizes <= level]) <= used_up <= set(sizes.index[sizes <= level + 1])


def run_sampled(
    home: Home, shared_data: Path, sample_n: int, strategies: list[str], budgets: list[int], *, workers_n: int = 1
) -> Path:
    """Run the experiment over a sample of its prompts by the real command, check its contracts, and return its tables."""
    path = home.write_experiment(
        "flan_small",
        ("../../../shared/data", str(shared_data)),
        ("duplicates: keep", f"duplicates: keep\n  sample: {sample_n}"),
        ("budgets: [3000, 10000, 30000, 48314]", f"budgets: {budgets}"),
        source=SOURCE,
    )
    chosen = [argument for name in strategies for argument in ("--strategy", name)]
    result = home.taskdiv(
        "run", str(path), "--until", "allocation", "--workers", str(workers_n), *chosen, timeout_s=1700
    )
    assert result.returncode == 0, result.stderr
    checked = home.say("contracts", "check", "flan_small")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return home.folder / "results/flan_small/tables"


def assert_allocations(tables: Path, strategies: list[str], budgets: list[int]) -> None:
    """Compare every stored allocation with counts computed here from the stored labels and confidences."""
    pool_tasks = pq.read_table(tables / "task_labels.parquet").to_pandas()
    confidence = pq.read_table(tables / "task_confidence.parquet").to_pandas().set_index("task")
    scores = pq.read_table(tables / "confidence_table.parquet").to_pandas().merge(pool_tasks, on="prompt_id")
    means = scores.groupby("task")["mean_probability"].mean()
    np.testing.assert_allclose(confidence["mean_confidence"].loc[means.index], means, rtol=1e-12)
    names = tuple(means.index)
    by_seed = np.argsort(streams.shuffled_positions(0, streams.TASK_ORDER, names))
    sizes = pool_tasks["task"].value_counts().loc[list(names)].to_numpy()
    stratified = SelectionPool(
        prompt_ids=np.arange(sizes.sum(), dtype=np.uint64),
        tasks=np.repeat(np.arange(len(names)), sizes),
        task_names=names,
        task_confidence=means.to_numpy(),
    )
    for strategy in strategies:
        for budget in budgets:
            rows = pq.read_table(tables / "allocation" / strategy / f"{budget}.parquet").to_pandas()
            assert len(rows) == rows["prompt_id"].nunique() == budget
            if strategy not in COSTS:
                continue
            counts = rows["task"].value_counts().reindex(list(names), fill_value=0).to_numpy()
            expected = allocate(COSTS[strategy](stratified)[by_seed], sizes[by_seed], budget)
            assert counts[by_seed].tolist() == expected.tolist()


@pytest.mark.timeout(1800)
def test_strategies_of_the_file_over_a_sample_scored_by_a_real_model(shared_data: Path, tmp_path: Path) -> None:
    listed, budgets = experiment_file.load(str(SOURCE)).strategies, [600]
    assert set(COSTS) <= set(listed) <= set(STRATEGIES)
    strategies = ["random", "min_margin", *COSTS]
    tables = run_sampled(Home(tmp_path), shared_data, 900, strategies, budgets, workers_n=1)
    pool = pq.read_table(tables / "raw_pool.parquet")
    assert pool.num_rows == 900 and pool["response"].null_count > 0
    assert_allocations(tables, strategies, budgets)
    scores = pq.read_table(tables / "confidence_table.parquet").to_pandas()
    by_margin = pq.read_table(tables / "ranking/weighted_task_diversity_min_margin.parquet").to_pandas()
    within = by_margin.merge(scores, on="prompt_id").sort_values("rank").groupby("task")["min_margin"]
    assert all(margins.is_monotonic_increasing for _, margins in within)
