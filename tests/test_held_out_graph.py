"""Held-out items in the graph: no stage before the scores sees them, and a rule fails if one is inserted by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

import data_contracts
from taskdiv_assets.assets import REGISTRY, adapter, allocation, raw_pool, tuning_choice
from taskdiv_assets.commands.planning import plan
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.adapter_plan import TrialPrompts
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.pools import held_items
from taskdiv_assets.tuning_settings import LearningRates
from tests import golden
from tests.graph import Graph, failure
from tests.home import MINIATURE, Home

pytestmark = pytest.mark.xdist_group("held_out_graph")
CELL = "12|random"
CHANGES = (
    ("benchmarks: [{name: lab}]", "benchmarks: [{name: held_out, per_task: 4}]"),
    ("benchmark: lab, metric: exact_match", "benchmark: held_out, metric: mean_probability"),
    ("full_pool_seeds: [0]", "full_pool_seeds: []"),
)


class Bench:
    """The miniature with held-out items. It shares its store, and so its base model, with the miniature without them."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance
        self.graph = self.variant()

    def variant(self, *more: tuple[str, str]) -> Graph:
        return Graph(self.home.write_experiment("miniature", *CHANGES, *more), self.instance)

    def run(self, job: str, *assets: str, key: str | None = None, graph: Graph | None = None) -> str:
        return failure((graph or self.graph).run(job, *assets, key=key))

    def table(self, asset: str, key: str | None = None) -> pa.Table:
        return self.graph.store.read_table(asset, key).table

    def work(self, asset: str, key: str | None = None) -> Work:
        lineage, unit = self.graph.lineage(), Unit(asset, key)
        return Work(self.graph.experiment, self.graph.store, lineage, unit, lineage.expect(unit), str)

    @property
    def held(self) -> set[str]:
        return set(self.table("held_out_items")["prompt_id"].to_pylist())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = Home(tmp_path_factory.mktemp("held"))
    golden.unpack("miniature", home.folder / "results")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        instance.add_dynamic_partitions("miniature_budget", ["12"])
        bench = Bench(home, instance)
        for job, assets, key in (
            (
                "pool",
                ("raw_pool", "task_labels", "annotations", "held_out_items", "contamination", "base_scores"),
                None,
            ),
            ("rankings", (), "random"),
            ("cells", (), CELL),
        ):
            assert bench.run(job, *assets, key=key) == ""
        yield bench


def test_the_items_are_in_no_table_before_the_scores(bench: Bench) -> None:
    pool, items = bench.table("raw_pool"), bench.table("held_out_items")
    assert items.num_rows == 24 and set(items["task"].value_counts().field("counts").to_pylist()) == {4}
    for asset, key in (("raw_pool", None), ("task_labels", None), ("ranking", "random"), ("allocation", CELL)):
        assert bench.held.isdisjoint(bench.table(asset, key)["prompt_id"].to_pylist()), asset
    assert bench.held.isdisjoint(
        i
        for one in bench.graph.lineage().adapter_plans(bench.work("adapter", CELL).cell)
        for i in one.prompt_ids.to_pylist()
    )
    notes = bench.graph.store.read_footer("raw_pool").notes
    assert (
        notes["drops"] == {"held_out": 24}
        and notes["rows_read_n"] == pool.num_rows + 24 == notes["dropped_n"] + pool.num_rows
    )
    assert bench.graph.lineage().pool_size.prompts_n == pool.num_rows


def test_scores_are_those_of_every_item_under_the_benchmarks_name(bench: Bench) -> None:
    for asset, key, seeds in (("base_scores", None, [None]), ("benchmark_scores", CELL, [0, 1])):
        table = bench.table(asset, key)
        found = list(zip(*(table[name].to_pylist() for name in ("training_seed", "item_id", "metric")), strict=True))
        metrics = ("mean_probability", "first_choice", "exact_match")
        assert sorted(found, key=str) == sorted(
            ((s, i, m) for s in seeds for i in bench.held for m in metrics), key=str
        )
        assert set(table["benchmark"].to_pylist()) == {"held_out"}
        tasks = dict(
            zip(*(bench.table("held_out_items")[name].to_pylist() for name in ("prompt_id", "task")), strict=True)
        )
        assert all(tasks[row["item_id"]] == row["task"] for row in table.to_pylist())
        noted = bench.graph.store.read_footer(asset, key).notes["asked"]["held_out"]
        assert all(bits > 0 for bits in noted["bits_per_character"].values())


def test_the_report_shows_the_benchmark_and_where_its_items_are_from(bench: Bench) -> None:
    assert bench.run("report") == ""
    page = (bench.home.folder / "results/miniature/report/index.html").read_text()
    assert (
        "The items are 24 answered prompts of this pool that were taken out before any selection and training" in page
    )
    assert "no near-duplicate remained" in page and "Bits per character of the answers" in page
    assert "mean_probability" in page and "mean probability of the answer" in page
    assert "Not stored: held_out_items" not in page and "No prompt of the pool matches an item of held_out" in page


def test_the_plan_counts_the_items(bench: Bench) -> None:
    (found,) = plan(bench.graph.experiment, bench.graph.store).benchmarks
    assert (found.name, found.asked_n, found.items_n) == ("held_out", 24, 24)
    assert "held_out_items" not in REGISTRY.used(experiment_file.load(str(MINIATURE)))


def test_a_held_out_item_in_the_pool_breaks_its_contract(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    split = held_items.without_items

    def leaking(pool: Any, *settings: Any) -> held_items.Split:
        return split(pool, *settings)._replace(pool=split(pool, None, *settings[1:]).pool)

    monkeypatch.setattr(raw_pool.held_items, "without_items", leaking)
    other = bench.variant(("per_task: 4", "per_task: 3"))
    assert "raw_pool breaks its contract: no_held_out_item" in bench.run("pool", "raw_pool", graph=other)
    assert bench.run("pool", "raw_pool") == ""  # nothing stored was changed


def test_a_held_out_item_in_an_allocation_breaks_its_contract(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    item = min(bench.held)
    prefix = allocation.first_of

    def leaking(*arguments: Any) -> pa.Table:
        chosen = prefix(*arguments)
        ids = [item, *chosen["prompt_id"].to_pylist()[1:]]
        place = chosen.column_names.index("prompt_id")
        return chosen.set_column(place, chosen.schema.field(place), pa.array(ids))

    work = bench.work("allocation", CELL)
    contract = data_contracts.load("allocation")
    assert data_contracts.validate(contract, allocation.make_allocation(work).table, work.parameters()).is_valid
    monkeypatch.setattr(allocation, "first_of", leaking)
    for name in ("data_card_file", "cost_notes"):  # both read the pool, where they would miss the prompt
        monkeypatch.setattr(allocation, name, lambda *_: {})
    result = data_contracts.validate(contract, allocation.make_allocation(work).table, work.parameters())
    assert [rule.rule for rule in result.failed if rule.severity == "error"] == ["no_held_out_item"]


def test_an_adapter_trained_on_an_item_breaks_its_contract(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    item, contract, table = min(bench.held), data_contracts.load("adapter"), bench.table("adapter", CELL)
    work = bench.work("adapter", CELL)
    assert data_contracts.validate(contract, table, work.parameters()).is_valid
    plans = Lineage.adapter_plans

    def leaking(self: Lineage, cell: Any) -> Any:
        ids = [[*one.prompt_ids.to_pylist()[1:], item] for one in plans(self, cell)]
        return [one._replace(prompt_ids=pa.chunked_array([i])) for one, i in zip(plans(self, cell), ids, strict=True)]

    monkeypatch.setattr(Lineage, "adapter_plans", leaking)
    result = data_contracts.validate(contract, table, work.parameters())
    assert [(rule.rule, rule.observed) for rule in result.failed] == [("no_held_out_item_trained", "observed 1")]
    with pytest.raises(KeyError, match=item):  # the text of an item cannot be found in the pool either
        adapter.examples_of(work, [item])


def test_a_learning_rate_chosen_on_an_item_breaks_its_contract(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bench.variant(("learning_rate: 2.0e-3", "learning_rate: {choose: [1.0e-3, 2.0e-3], validation: 5}"))
    lineage = other.lineage()
    unit = Unit("tuning_choice")
    work = Work(other.experiment, other.store, lineage, unit, lineage.expect(unit), str)
    rates = other.experiment.tuning.candidates
    assert isinstance(rates, LearningRates)
    drawn = lineage.trial_prompts(rates)
    assert bench.held.isdisjoint([*drawn.training, *drawn.validation])
    assert tuning_choice.choice_parameters(work)["held_out_trained"] == []
    item = min(bench.held)
    monkeypatch.setattr(Lineage, "trial_prompts", lambda *_: TrialPrompts(drawn.training, (item,)))
    assert tuning_choice.choice_parameters(work)["held_out_trained"] == [item]


def test_another_draw_makes_stale_what_read_the_pool_and_nothing_else(bench: Bench) -> None:
    other = bench.variant(("per_task: 4", "per_task: 5")).lineage()
    assert other.state(Unit("raw_pool")).status == "stale"
    assert other.is_fresh(Unit("base_model"))
    written = bench.variant(("per_task: 4", "per_task: 4, generated: {}")).lineage()
    assert written.is_fresh(Unit("raw_pool")) and written.state(Unit("benchmark_scores", CELL)).status == "stale"
    same = bench.variant(("per_task: 4", "per_task: 4, drop_duplicates: false")).lineage()
    assert same.is_fresh(Unit("raw_pool")) and same.is_fresh(Unit("benchmark_scores", CELL))


def test_a_file_of_items_is_part_of_the_pools_identity(bench: Bench) -> None:
    path = bench.home.folder / "items.csv"
    path.write_text("q,a\nspell backwards: abcd>,dcba\n")
    settings = "path: items.csv, columns: {prompt: q, response: a}"
    graph = bench.variant(("per_task: 4", settings))
    before = graph.lineage().expect(Unit("raw_pool")).identity
    path.write_text("q,a\nspell backwards: abcd>,abcd\n")
    after = graph.lineage().expect(Unit("raw_pool")).identity
    moved = path.rename(path.with_name("moved.csv"))
    assert (
        before
        != after
        == bench.variant(("per_task: 4", settings.replace("items", "moved")))
        .lineage()
        .expect(Unit("raw_pool"))
        .identity
    )
    moved.unlink()


def test_the_file_of_the_items_is_missed_in_a_sentence(bench: Bench) -> None:
    store = bench.graph.store
    path: Path = bench.home.folder / "results/miniature" / store.read_footer("raw_pool").notes[held_items.NOTE]
    content = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(FileNotFoundError, match="it holds the items of `held_out`; remove tables/raw_pool.parquet"):
            held_items.read(store)
    finally:
        path.write_bytes(content)
