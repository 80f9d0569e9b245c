"""Tasks at two levels: `level` names a column with a coarser task, and nothing else of the experiment changes."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pyarrow as pa
import pytest

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.pool_settings import Pool, TaskLabels
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import levels
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.storage.store import Store
from tests.annotating.conftest import make_list
from tests.benchmarks.shared import shared_data
from tests.home import Home

EXPERIMENT = """name: levels
purpose: campaign
pool: {reader: table, path: pool.csv, columns: {prompt: question, response: answer, task: task}}
task_labels: {level: area}
strategies: [task_diversity]
budgets: [4]
"""
AREAS = {"refund": "money", "invoice": "money", "price": "money", "login": "access"}
ROWS = [(f"{task} question {i}", "", task, AREAS[task]) for i, task in enumerate([*AREAS] * 5)]


def write_pool(rows: list[tuple[str, str, str, str]]) -> None:
    with Path("pool.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer", "task", "area"), *rows])


def first(n: int) -> list[str]:
    make_list(experiment_file.load("levels.yaml"), "4|task_diversity")
    rows = Store("levels").read_table("allocation", "4|task_diversity").table.sort_by("rank").to_pylist()
    return [row["task"] for row in rows[:n]]


def test_one_key_spreads_over_categories_instead_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    for name, value in home.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    write_pool(ROWS)
    file = Path("levels.yaml")
    file.write_text(EXPERIMENT)
    assert sorted(first(4)) == ["access", "access", "money", "money"]
    store = Store("levels")
    ids = store.read_table("raw_pool").table["prompt_id"]
    shown = home.say("tasks", "show", "levels.yaml").stdout
    assert "finer tasks" in shown and re.findall(r"\w+", shown.split("money")[1])[:2] == ["15", "3"]

    lineage = REGISTRY.look(experiment_file.load("levels.yaml"), store)
    before = lineage.expect(Unit("task_labels")).identity
    write_pool([(ROWS[0][0], "an answer", *ROWS[0][2:]), *ROWS[1:]])
    first(1)
    assert REGISTRY.look(lineage.experiment, store).expect(Unit("task_labels")).identity == before, (
        "an answer moves no task"
    )
    write_pool([(*ROWS[0][:3], "access"), *ROWS[1:]])
    first(1)
    assert REGISTRY.look(lineage.experiment, store).expect(Unit("task_labels")).identity != before

    file.write_text(EXPERIMENT.replace("task_labels: {level: area}\n", ""))
    assert sorted(first(4)) == sorted(AREAS)
    assert store.read_table("raw_pool").table["prompt_id"].equals(ids), "ids are the same at every level"
    file.write_text(EXPERIMENT.replace("level: area", "level: region"))
    with pytest.raises(ValueError, match="region"):
        first(1)
    write_pool([(*ROWS[0][:3], " "), *ROWS[1:]])
    file.write_text(EXPERIMENT)
    with pytest.raises(ValueError, match="1 of 20 prompts have no source_task"):
        first(1)


def test_a_level_needs_a_file_and_a_column() -> None:
    with pytest.raises(ValueError, match="the lab's pool has no column 'area'"):
        levels.of_source(Pool(reader="lab", seed=1), "area", [])
    with pytest.raises(ValueError, match="`level` is a column of the pool's own file"):
        TaskLabels.model_validate({"from": "discovered", "level": "area"})


def test_the_table_of_levels_does_not_depend_on_the_order_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pool = Pool.model_validate(
        {"reader": "table", "path": "pool.csv", "columns": {"prompt": "question", "task": "task"}}
    )
    found: list[pa.Table] = []
    for rows in (ROWS, ROWS[::-1]):
        write_pool(rows)
        found.append(levels.of_source(pool, "area", read_pool(pool).table["prompt_id"].to_pylist()))
    assert found[0].equals(found[1]) and levels.digest_of(found[0]) == levels.digest_of(found[1])


@pytest.mark.full  # reads 55,185 rows
@pytest.mark.skipif(shared_data() is None, reason="the real pools are not here")
def test_every_task_of_t0_has_one_data_set() -> None:
    data = shared_data()
    assert data is not None
    pool = Pool(reader="t0", path=str(data / "t0/t0_pool.parquet"))
    table = read_pool(pool).table.sort_by("prompt_id")
    found = levels.as_tasks(table, levels.of_source(pool, "dataset", table["prompt_id"].to_pylist()))["source_task"]
    pairs = {*zip(table["source_task"].to_pylist(), found.to_pylist(), strict=True)}
    assert len(pairs) == len({task for task, _ in pairs}) and len({level for _, level in pairs}) == 37
