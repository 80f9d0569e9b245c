"""The graph in this process, cell by cell: real scoring, tuning and benchmarks on a lab of six tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from data_contracts.table_paths import table_parts
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.graph import cells
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import StaleInputError
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.orchestration import factory, metadata
from tests.graph import Graph, failure
from tests.home import Home

pytestmark = pytest.mark.xdist_group("graph")
CELL = "12|weighted_task_diversity"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Materialise the pool, two rankings and one cell of a small experiment."""
    home = Home(tmp_path_factory.mktemp("graph"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        path = home.write_experiment("tiny", ("[12, 24]", "[12]"), ("full_pool_seeds: [0]", "full_pool_seeds: []"))
        made = Graph(path, instance)
        instance.add_dynamic_partitions("tiny_budget", ["12"])
        for result in (
            made.run("pool"),
            made.run("rankings", key="random"),
            made.run("rankings", key="weighted_task_diversity"),
            made.run("cells", key=CELL),
        ):
            assert result.success, failure(result)
        yield made


def test_every_table_is_there_and_fresh(graph: Graph) -> None:
    lineage = graph.lineage()
    names = [*factory.jobs(graph.experiment)["pool"], "ranking", *REGISTRY.by_cell]
    keys = {"ranking": "weighted_task_diversity", **dict.fromkeys(REGISTRY.by_cell, CELL)}
    assert {name: lineage.state(Unit(name, keys.get(name))).status for name in names} == dict.fromkeys(names, "fresh")


def test_the_base_says_which_padding_it_counts(graph: Graph) -> None:
    notes = graph.store.read_table("base_model").footer.notes
    assert notes["batching"] == {"gap": False, "left": False, "right": False, "switches": []}


def test_a_budget_is_a_prefix_of_its_ranking(graph: Graph) -> None:
    ranking = graph.store.read_table("ranking", "weighted_task_diversity").table.to_pandas()
    chosen = graph.store.read_table("allocation", CELL).table.to_pandas()
    expected = ranking[ranking["rank"] < 12].reset_index(drop=True)
    assert chosen.equals(expected)
    assert set(chosen["selection_seed"]) == {0, 1}


def test_the_weights_are_the_mean_confidences(graph: Graph) -> None:
    """Task confidence against a second definition, straight from the two tables it is made of."""
    labels = dict(
        zip(
            *graph.store.read_table("task_labels").table.select(["prompt_id", "task"]).to_pydict().values(), strict=True
        )
    )
    scores = graph.store.read_table("confidence_table").table.to_pandas()
    for row in graph.store.read_table("task_confidence").table.to_pylist():
        values = [c for i, c in zip(scores["prompt_id"], scores["confidence"], strict=True) if labels[i] == row["task"]]
        assert row["pool_n"] == row["scored_n"] == len(values)
        assert row["mean_confidence"] == pytest.approx(np.mean(values), rel=1e-12)
        assert row["standard_error"] == 0  # every prompt of the pool was scored


def test_scores_cover_every_item_once_a_seed(graph: Graph) -> None:
    scores = graph.store.read_table("benchmark_scores", CELL).table.to_pandas()
    base = graph.store.read_table("base_scores").table.to_pandas()
    assert sorted(set(scores["training_seed"])) == [0, 1]
    for _, of_seed in scores.groupby("training_seed"):
        assert sorted(of_seed["item_id"]) == sorted(base["item_id"])
    assert len(base) == 6 * 40


def test_events_carry_data_version_rows_and_a_picture(graph: Graph) -> None:
    key = dg.AssetKey(["tiny", "allocation"])
    records = graph.instance.fetch_materializations(key, limit=1).records
    event = records[0].asset_materialization
    assert event is not None and event.partition == CELL
    footer = graph.store.read_footer("allocation", CELL)
    assert footer is not None and event.tags is not None
    assert event.tags["dagster/data_version"] == footer.identity
    assert event.metadata["dagster/row_count"].value == 24
    assert "data:image/png;base64," in str(event.metadata["picture"].value)
    schema = graph.defs.resolve_asset_graph().get(key).metadata["dagster/column_schema"]
    assert {column.name for column in schema.columns} == {"selection_seed", "rank", "prompt_id", "task"}


def test_a_picture_that_cannot_be_drawn_costs_nothing_else(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> bytes:
        raise ValueError("no bins fit")

    stage = REGISTRY["allocation"]
    stored, unit, lineage = graph.store.read_table("allocation", CELL), Unit("allocation", CELL), graph.lineage()
    work = Work(graph.experiment, graph.store, lineage, unit, lineage.expect(unit), print)
    found = metadata.describe(work, replace(stage, picture=fails), stored.table, stored.footer)
    assert found["no picture"] == "ValueError: no bins fit" and "preview" in found and "picture" not in found


def test_a_second_run_finds_everything_and_changes_no_byte(graph: Graph) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path(graph.store.path("tables")).rglob("*.parquet")}
    result = graph.run("cells", key=CELL)
    assert result.success
    assert all(entry.passed for entry in graph.checks(result).values() if entry.severity == dg.AssetCheckSeverity.ERROR)
    assert {p: p.stat().st_mtime_ns for p in Path(graph.store.path("tables")).rglob("*.parquet")} == before


def test_rotten_weights_break_the_contract_stop_what_follows_and_leave_the_old_table(graph: Graph) -> None:
    store = graph.store
    stored = store.read_table("adapter", CELL)
    folder = stored.table["folder"][0].as_py()
    weights = Path(store.path("folders", folder, "adapter_model.safetensors"))
    kept = weights.read_bytes()
    # As if it had been made before something changed, so that it is made again, from weights that rotted on disk.
    store.write_table(stored.table, replace(stored.footer, identity="0" * 32))
    table_before = Path(store.path(*table_parts("adapter", CELL))).read_bytes()
    scores_before = Path(store.path(*table_parts("benchmark_scores", CELL))).read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        result = graph.run("cells", key=CELL)
        assert not result.success
        assert "breaks its contract" in failure(result)
        failed = [(name, entry) for name, entry in graph.checks(result).items() if not entry.passed]
        assert [(asset, entry.partition) for (asset, _), entry in failed] == [("adapter", CELL)]
        assert failed[0][1].metadata["failing rows"].value == 1
        assert folder in json.dumps(failed[0][1].metadata["examples"].value)
        made = [event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key]
        assert "adapter" not in made and "benchmark_scores" not in made
        assert Path(store.path(*table_parts("adapter", CELL))).read_bytes() == table_before
        assert Path(store.path(*table_parts("benchmark_scores", CELL))).read_bytes() == scores_before
        rejections = store.rejections()
        assert [(note["asset"], note["key"]) for _, note in rejections] == [("adapter", CELL)]
    finally:
        weights.write_bytes(kept)
    assert graph.run("cells", key=CELL).success
    assert store.rejections() == []


def test_a_job_on_stale_inputs_is_refused_with_the_input_and_the_command(graph: Graph) -> None:
    store = graph.store
    stored = store.read_table("confidence_table")
    store.write_table(
        stored.table, replace(stored.footer, inputs={**stored.footer.inputs, "base_model": "x"}, identity="x")
    )
    try:
        result = graph.run("cells", "allocation", key=CELL)
        assert not result.success
        assert "confidence_table was made from an older base_model" in failure(result)
        assert "taskdiv run tiny" in failure(result)
        with pytest.raises(StaleInputError):
            graph.lineage().fresh(Unit("ranking", "weighted_task_diversity"))
        graph.lineage().fresh(Unit("ranking", "random"))  # reads no confidence
    finally:
        store.write_table(stored.table, stored.footer)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("0|random", "not a positive whole number"),
        ("-5|random", "not a positive whole number"),
        ("1.5|random", "not a positive whole number"),
        ("many|random", "not a positive whole number"),
        ("0060|random", "not a positive whole number"),
        ("9999|random", "larger than the pool of tiny, 142 prompts"),
    ],
)
def test_a_bad_budget_of_the_ui_fails_with_a_sentence_and_stores_nothing(graph: Graph, key: str, said: str) -> None:
    graph.instance.add_dynamic_partitions("tiny_budget", [key.partition("|")[0]])
    before = sorted(str(p) for p in Path(graph.store.path("tables")).rglob("*"))
    result = graph.run("cells", key=key)
    assert not result.success
    assert said in failure(result)
    assert sorted(str(p) for p in Path(graph.store.path("tables")).rglob("*")) == before
    assert graph.store.names("budgets") == []  # 12 is of the file


def test_the_size_of_an_earlier_pool_is_refused_before_anything_is_made_for_it(graph: Graph) -> None:
    cells.register(graph.store, 130, is_full=True)
    graph.instance.add_dynamic_partitions("tiny_budget", ["130"])
    before = sorted(str(p) for p in Path(graph.store.path("tables")).rglob("*"))
    result = graph.run("cells", key="130|random")
    assert "130 was the whole pool of tiny earlier" in failure(result) and "taskdiv budget add tiny 130" in failure(
        result
    )
    assert [step.step_key for step in result.get_step_failure_events()] == ["tiny__allocation"]
    assert sorted(str(p) for p in Path(graph.store.path("tables")).rglob("*")) == before
    graph.store.remove("budgets", "130")


def test_equal_selections_share_one_adapter(graph: Graph) -> None:
    """Two strategies that happen to choose the same prompts are trained once: identity is content, not name."""
    plans = graph.lineage().adapter_plans(Cell.parse(CELL))
    assert len({plan.identity for plan in plans}) == 2
    again = graph.lineage().adapter_plans(Cell.parse(CELL))
    assert [plan.identity for plan in plans] == [plan.identity for plan in again]


def test_definitions_of_every_built_in_experiment_load() -> None:
    from taskdiv_assets.orchestration.code_location import build

    defs = build(experiments.built_in_names())
    dg.Definitions.validate_loadable(defs)
    groups = {node.group_name for node in defs.resolve_asset_graph().asset_nodes}
    assert set(experiments.built_in_names()) <= groups
