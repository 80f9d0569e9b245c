"""Found tasks from a pool that names its tasks to the notes of the stored tables, which the report shows."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reports import results
from reports.found import found_curve, found_parts, found_sentences
from reports.found.found_numbers import RULES
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.pool_settings import FOUND_TASKS_MAX
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools.discovery import found_tasks, labelling
from taskdiv_assets.storage.store import Store
from tests.graph import make_unit
from tests.pools.test_discovery import mixed

EXPERIMENT = """name: found_true
pool: {reader: table, path: pool.csv, columns: {prompt: question, task: kind}}
task_labels: {from: discovered, tasks: 3}
strategies: [task_diversity, random]
budgets: [7, 30]
seeds: [0, 1]
purpose: study
base_model: {path: model}
tuning: {learning_rate: 2.0e-4, epochs: 3}
benchmarks: [{name: mmlu}]
primary: {strategy: task_diversity, reference: random, benchmark: mmlu, metric: acc}
"""
KINDS = ("reset", "refund", "poem", "chinese")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with found tasks of a pool of four kinds of prompts, made without Dagster."""
    folder = tmp_path_factory.mktemp("found_true")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKDIV_HOME", str(folder / "home"))
        patch.chdir(folder)
        yield made(folder)


def made(folder: Path) -> Store:
    prompts, kinds = mixed(160, kinds=KINDS)
    with (folder / "pool.csv").open("w", newline="") as file:
        rows = [(f"{text} (no. {i})", kind) for i, (text, kind) in enumerate(zip(prompts, kinds, strict=True))]
        csv.writer(file).writerows([("question", "kind"), *rows])
    (folder / "found_true.yaml").write_text(EXPERIMENT)
    text, origin = experiment_file.read_text(str(folder / "found_true.yaml"))
    experiment, store = experiment_file.parse(text, origin), Store("found_true")
    store.put(text.encode(), "experiment.yaml")
    for asset, keys in {
        "raw_pool": [None],
        "task_labels": [None],
        "ranking": experiment.strategies,
        "allocation": [f"{budget}|{name}" for budget in experiment.budgets for name in experiment.strategies],
    }.items():
        for key in keys:
            make_unit(experiment, store, Unit(asset, key))
    return store


def test_each_list_has_its_distance_from_an_even_spread_over_the_true_tasks(store: Store) -> None:
    pool = store.read_table("raw_pool").table
    kinds = dict(zip(pool["prompt_id"].to_pylist(), pool["source_task"].to_pylist(), strict=True))
    for budget_n in (7, 30):
        stored = store.read_table("allocation", f"{budget_n}|task_diversity")
        even, distances = Counter(dict.fromkeys(KINDS, budget_n // 4)), []
        even.update(sorted(KINDS)[: budget_n % 4])  # the rest goes to the first tasks
        for seed in {*stored.table["selection_seed"].to_pylist()}:
            rows = [row for row in stored.table.to_pylist() if row["selection_seed"] == seed]
            own = Counter(kinds[row["prompt_id"]] for row in rows)
            distances.append((own - even).total() / budget_n)
        assert len(distances) == 2
        assert stored.footer.notes["distance_to_true_tasks"] == pytest.approx(np.mean(distances), abs=1e-4)
        assert 0.05 < stored.footer.notes["random_distance_to_true_tasks"] < 0.4
        assert "distance_to_true_tasks" not in store.read_table("allocation", f"{budget_n}|random").footer.notes


def test_the_report_reads_what_was_stored(store: Store) -> None:
    loaded = results.load(store.url)
    assert loaded.found is not None and not loaded.problems
    notes = {key: store.read_table("allocation", f"{key}|task_diversity").footer.notes for key in (7, 30)}
    assert loaded.found.distances == {
        ("task_diversity", key): (one["distance_to_true_tasks"], one["random_distance_to_true_tasks"])
        for key, one in notes.items()
    }
    made = found_parts.found_section(loaded)
    assert made is not None and len(made.first) == 3 and made.map is not None and made.moved and made.distances
    assert sum(one.prompts_n for one in made.first) == loaded.pool_n == 160
    assert made.chosen == "The experiment file sets the number of tasks to 3."
    assert [row[:2] for row in made.curve.rows] == [("2", "2"), ("3 (chosen)", "3"), ("6", "4"), ("12", "4")]


def test_the_page_recommends_no_number_that_the_file_refuses(store: Store) -> None:
    loaded = results.load(store.url)
    assert loaded.found is not None and found_sentences.TASKS_MAX == FOUND_TASKS_MAX
    large = tuple(one.model_copy(update={"prompts_n": 10**6}) for one in loaded.found.note.tasks)
    many = loaded.found._replace(note=loaded.found.note.model_copy(update={"tasks": large}), broken=RULES[:2])
    assert [one.remedy for one in found_sentences.warnings(loaded, many)] == ["tasks: 1000"] * 2
    (own,) = found_sentences.warnings(loaded, loaded.found._replace(broken=RULES[1:2]))
    assert own.remedy == "tasks: 8"  # 160 prompts, 20 of each task


def test_the_labels_have_their_agreement_and_the_labels_that_would_move(store: Store) -> None:
    found = store.read_table("task_labels").footer.notes[labelling.NOTE]
    assert found["with_true"] | {"tasks_n": 4, "prompts_n": 160} == found["with_true"]
    assert 0.5 < found["with_true"]["rand"] < 1 and 0.5 < found["with_true"]["purity"] < 1  # three tasks for four kinds
    assert [one["budget_n"] for one in found["moved_labels"]] == [7, 30]
    assert all(0 <= one["share"] <= 0.5 for one in found["moved_labels"])
    assert REGISTRY["task_labels"].code_version == 1
    point = next(one for one in found["curve"]["points"] if one["tasks_n"] == 3)
    assert {name: point[name] for name in ("between_seeds", "between_halves")}.items() <= found["agreement"].items()
    assert (found_curve.PICKS_MIN, found_sentences.PROMPTS_MIN) == (
        found_tasks.PICKS_A_TASK,
        found_tasks.PROMPTS_A_TASK,
    )
