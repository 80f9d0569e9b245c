"""A miniature campaign: lists go out, answers come in, the budget grows, and another model scores the pool again.

The pool is a file of prompts without answers. The models are tiny random Llamas, because only orders matter here.
docs/ANNOTATING.md describes the files of the ledger and of imports. Other tests run `taskdiv annotations` with real models.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import data_contracts
from taskdiv_assets.annotating.exporting import Target, export
from taskdiv_assets.annotating.ledger import entries, sent_prompt_ids
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.commands.next_steps import next_lines
from taskdiv_assets.commands.planning import plan
from taskdiv_assets.commands.terminal import print_plan
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit
from tests.graph import Graph, failure, make_unit
from tests.home import Home

pytestmark = pytest.mark.xdist_group("campaign_graph")
WORDS_N, TASKS_N, PROMPTS_PER_TASK = 60, 4, 30
RULE = "bought_labels_inside"
EXPERIMENT = """
name: camp
purpose: campaign
pool: {reader: table, path: pool.csv, columns: {prompt: prompt, task: task}}
base_model: {path: MODELS/0}
confidence: {max_new_tokens: 4}
strategies: [min_margin, random, k_center]
budgets: [32, 64]
seeds: [0, 1]
tuning: {rank: 2, alpha: 4, learning_rate: 1.0e-3, epochs: 1}
benchmarks: [{name: bbh}]
primary: {strategy: min_margin, benchmark: bbh, metric: exact_match}
annotation: {price: 0.5, currency: EUR}
"""


class Campaign:
    """One campaign over one store. Its experiment file changes as its user edits it."""

    def __init__(self, home: Home, instance: dg.DagsterInstance, models: Path) -> None:
        self.home, self.instance, self.models = home, instance, models
        self.imports_n = 0

    def graph(self, *changes: tuple[str, str]) -> Graph:
        """Return the graph over the experiment with changes to its file."""
        text = EXPERIMENT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self.home.folder / "camp.yaml"
        path.write_text(text.replace("MODELS", str(self.models)))
        return Graph(path, self.instance)

    def make(self, graph: Graph, strategy: str = "min_margin", budgets: tuple[int, ...] = (32, 64)) -> None:
        """Bring one strategy's lists up to date without Dagster, whose steps take seconds."""
        for unit in self.units(strategy):
            make_unit(graph.experiment, graph.store, unit)
        for n, asset in product(budgets, ("allocation", "annotation_batch")):
            make_unit(graph.experiment, graph.store, Unit(asset, f"{n}|{strategy}"))

    def lists(self, graph: Graph, strategy: str = "min_margin", budgets: tuple[int, ...] = (32, 64)) -> dict[int, Any]:
        """Bring one strategy's lists up to date, the allocations by Dagster, and return each budget's result."""
        for unit in self.units(strategy):
            make_unit(graph.experiment, graph.store, unit)
        results = {n: ran(graph.run("cells", "allocation", key=f"{n}|{strategy}")) for n in budgets}
        self.make(graph, strategy, budgets)
        return results

    @staticmethod
    def units(strategy: str) -> list[Unit]:
        """Return what the lists of a strategy are made from, in the order of the data flow."""
        needs = ["raw_pool", "task_labels", "annotations", "base_model", "confidence_table"]
        embeddings = ["prompt_embeddings"] if strategy == "k_center" else []
        return [*(Unit(name) for name in (*needs, *embeddings)), Unit("ranking", strategy)]

    def send_out(self, graph: Graph, budget_n: int, strategy: str = "min_margin") -> set[str]:
        """Export one list, and return the prompts it sends out."""
        before = sent_prompt_ids(entries(graph.store))
        path = self.home.folder / f"list-{len(graph.store.names('exports'))}.jsonl"
        export(REGISTRY.look(graph.experiment, graph.store), Cell(budget_n, strategy), None, Target(path, "jsonl"))
        return sent_prompt_ids(entries(graph.store)) - before

    def answer(self, graph: Graph, prompt_ids: set[str]) -> None:
        """Import an answer to each prompt."""
        self.imports_n += 1
        rows = [
            {"prompt_id": prompt_id, "response": "yes", "annotator": "Ada", "imported_at": datetime.now(UTC),
             "batch": f"{self.imports_n:064x}", "row": number}
            for number, prompt_id in enumerate(sorted(prompt_ids))
        ]  # fmt: skip
        folder = Path(graph.store.path("annotations"))
        folder.mkdir(exist_ok=True)
        schema = data_contracts.load("annotations").arrow_schema
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{self.imports_n:064x}.parquet")


KEPT = ("seeds: [0, 1]", "seeds: [0, 1]\nkeep_annotated: true")


def scored_by(number: int) -> tuple[str, str]:
    """Return the change of the experiment that takes confidence from another model than the base."""
    return ("max_new_tokens: 4}", f"max_new_tokens: 4, model: {{path: MODELS/{number}}}}}")


def ran(result: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
    assert result.success, failure(result)
    return result


def chosen(graph: Graph, budget_n: int, strategy: str = "min_margin") -> set[str]:
    return set(graph.store.read_table("allocation", f"{budget_n}|{strategy}").table["prompt_id"].to_pylist())


def order(graph: Graph, strategy: str = "min_margin") -> list[str]:
    ids: list[str] = graph.store.read_table("ranking", strategy).table["prompt_id"].to_pylist()
    return ids


def ranking_identity(graph: Graph, strategy: str = "min_margin") -> str:
    return graph.lineage().expect(Unit("ranking", strategy)).identity


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three random Llamas 0, 1 and 2 that share a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models")
    words = Tokenizer(WordLevel({f"w{index}": index for index in range(WORDS_N)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = LlamaConfig(vocab_size=WORDS_N, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=1,
                         pad_token_id=0)  # fmt: skip
    for number in range(3):
        torch.manual_seed(number)
        LlamaForCausalLM(config).save_pretrained(folder / str(number))
        PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1").save_pretrained(
            folder / str(number)
        )
    return folder


@pytest.fixture
def campaign(empty_home: Home, models: Path) -> Iterator[Campaign]:
    draws = np.random.default_rng(0).integers(2, WORDS_N, (TASKS_N, PROMPTS_PER_TASK, 6))
    with (empty_home.folder / "pool.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "task"])
        writer.writerows([" ".join(f"w{n}" for n in row), f"task {t}"] for t, rows in enumerate(draws) for row in rows)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("camp_budget", ["32", "64"])
        yield Campaign(empty_home, instance, models)


@pytest.mark.full
def test_a_raised_budget_sends_out_the_difference_and_changes_no_identity(campaign: Campaign) -> None:
    graph = campaign.graph()
    campaign.make(graph)
    before = ranking_identity(graph), graph.lineage().expect(Unit("allocation", "32|min_margin")).identity
    first = campaign.send_out(graph, 32)
    assert len(first) == 32
    campaign.answer(graph, first)
    results = campaign.lists(graph)
    assert (ranking_identity(graph), graph.lineage().expect(Unit("allocation", "32|min_margin")).identity) == before
    assert all(graph.checks(result)["allocation", RULE].passed for result in results.values())
    second = campaign.send_out(graph, 64)
    assert len(second) == 32 and not first & second and first | second == chosen(graph, 64)
    # Turned on while everything is as it was: the same lists again.
    kept = campaign.graph(KEPT)
    campaign.make(kept)
    assert ranking_identity(kept) != before[0]
    assert (chosen(kept, 32), chosen(kept, 64)) == (first, first | second)


@pytest.mark.full
def test_scored_by_another_model_the_rule_counts_what_fell_outside(campaign: Campaign) -> None:
    graph = campaign.graph()
    campaign.make(graph)
    first = campaign.send_out(graph, 32)
    campaign.answer(graph, first)
    again = campaign.graph(scored_by(1))
    results = campaign.lists(again)
    for budget_n, result in results.items():
        outside = first - chosen(again, budget_n)
        assert outside, "the other model does not reorder: nothing is tested"
        check = again.checks(result)["allocation", RULE]
        assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN
        assert check.metadata["observed"].value == f"{len(outside)} of 32 rows fail"
        assert check.metadata["failing rows"].value == len(outside)
        assert "keep_annotated: true" in str(check.description)
        assert {example["prompt_id"] for example in check.metadata["examples"].value} <= outside
        footer = again.store.read_footer("allocation", f"{budget_n}|min_margin")
        assert footer is not None and {rule.rule: rule.passed for rule in footer.rules}[RULE] is False
    assert len(campaign.send_out(again, 64)) > 32, "labels are bought a second time"


@pytest.mark.full
def test_labels_bought_since_the_list_was_made_are_seen_by_a_check(campaign: Campaign) -> None:
    """The stored verdict is as of publication; answers may come back after the order changed."""
    graph = campaign.graph()
    campaign.make(graph)
    first = campaign.send_out(graph, 32)
    again = campaign.graph(scored_by(1))
    results = campaign.lists(again)
    assert again.checks(results[32])["allocation", RULE].passed  # sent out, but nothing is bought yet
    campaign.answer(again, first)
    ran(again.run("pool", "annotations"))
    found = {
        str(entry.unit): rule.unexpected_n
        for entry in check_stored(again.experiment, again.store)
        for rule in entry.failed
        if rule.rule == RULE
    }
    assert found["allocation/32|min_margin"] == len(first - chosen(again, 32)) > 0
    planned = {entry.cell.key: entry.bought_outside_n for entry in plan(again.experiment, again.store).cells}
    assert planned["32|min_margin"] == found["allocation/32|min_margin"] and planned["32|random"] == 0


@pytest.mark.full
def test_kept_first_nothing_falls_outside_and_the_difference_goes_out(campaign: Campaign) -> None:
    graph = campaign.graph(KEPT)
    campaign.make(graph)
    unkept = ranking_identity(campaign.graph())
    assert ranking_identity(graph) == unkept, "nothing is annotated: nothing changes"
    first = campaign.send_out(graph, 32)
    campaign.answer(graph, first)

    again = campaign.graph(KEPT, scored_by(1))
    ran(again.run("pool", "annotations"))
    results = campaign.lists(again)
    plain = order_without(campaign, again)
    assert order(again) == [i for i in plain if i in first] + [i for i in plain if i not in first]
    assert chosen(again, 32) == first
    assert all(again.checks(result)["allocation", RULE].passed for result in results.values())
    second = campaign.send_out(again, 64)
    assert len(second) == 32 and not first & second

    # All are annotated, and a third model reorders once more: the smaller list keeps its own labels.
    campaign.answer(again, second)
    third = campaign.graph(KEPT, scored_by(2))
    results = campaign.lists(third)
    assert chosen(third, 32) == first and chosen(third, 64) == first | second
    assert all(third.checks(result)["allocation", RULE].passed for result in results.values())
    assert campaign.send_out(third, 64) == set()
    footer = third.store.read_footer("ranking", "min_margin")
    assert footer is not None and footer.notes["kept_first_n"] == 64


@pytest.mark.full
@pytest.mark.parametrize(
    ("pair", "is_answered_between"),
    [
        (("min_margin", "mean_entropy"), False),
        (("mean_entropy", "min_margin"), True),
    ],
)
def test_a_prompt_of_two_lists_goes_out_once_and_counts_for_both(
    campaign: Campaign, pair: tuple[str, str], is_answered_between: bool
) -> None:
    two = ("strategies: [min_margin, random, k_center]", "strategies: [min_margin, random, mean_entropy]")
    graph = campaign.graph(two)
    for strategy in (*pair, "random"):
        campaign.make(graph, strategy, (64,))
    lists, of_random = {strategy: chosen(graph, 64, strategy) for strategy in pair}, order(graph, "random")
    assert 0 < len(lists[pair[0]] & lists[pair[1]]) < 64
    first = campaign.send_out(graph, 64, pair[0])
    if is_answered_between:
        campaign.answer(graph, first)
        campaign.make(graph, pair[1], (64,))
    second = campaign.send_out(graph, 64, pair[1])
    assert (first, second) == (lists[pair[0]], lists[pair[1]] - first)
    campaign.answer(graph, first | second)

    again = campaign.graph(two, scored_by(1))
    for strategy in pair:
        check = again.checks(campaign.lists(again, strategy, (64,))[64])["allocation", RULE]
        outside_n = len(lists[strategy] - chosen(again, 64, strategy))
        assert outside_n and check.metadata["observed"].value == f"{outside_n} of 64 rows fail"
        (planned_n,) = [
            entry.bought_outside_n for entry in plan(again.experiment, again.store).cells
            if entry.cell == Cell(64, strategy)
        ]  # fmt: skip
        assert planned_n == outside_n
    kept = campaign.graph(two, KEPT, scored_by(1))
    for strategy in pair:
        assert kept.checks(campaign.lists(kept, strategy, (64,))[64])["allocation", RULE].passed
        assert chosen(kept, 64, strategy) == lists[strategy]
        assert campaign.send_out(kept, 64, strategy) == set(), "labels are bought a second time"
    campaign.make(kept, "random", (64,))
    assert order(kept, "random") == of_random, "what others bought bends no list that never went out"


def order_without(campaign: Campaign, graph: Graph) -> list[str]:
    """Return the strategy's order without the ledger, straight from the scores."""
    scores = graph.store.read_table("confidence_table").table.to_pandas().sort_values(["min_margin", "prompt_id"])
    ids: list[str] = scores["prompt_id"].tolist()
    return ids


@pytest.mark.full
def test_an_import_makes_the_ranking_stale_and_says_why(campaign: Campaign) -> None:
    graph = campaign.graph(KEPT)
    campaign.make(graph)
    campaign.answer(graph, campaign.send_out(graph, 32))
    assert graph.lineage().state(Unit("ranking", "min_margin")).status == "blocked"  # first the annotations
    ran(graph.run("pool", "annotations"))
    state = graph.lineage().state(Unit("ranking", "min_margin"))
    assert state.status == "stale" and "an older annotations" in state.reason


@pytest.mark.full
def test_what_was_bought_for_one_strategy_bends_no_other(campaign: Campaign) -> None:
    graph = campaign.graph(KEPT)
    campaign.make(graph)
    campaign.make(graph, "random")
    plain, lists = order(graph, "random"), ranking_identity(graph, "random")
    campaign.answer(graph, campaign.send_out(graph, 32))
    campaign.make(graph, "random")
    assert ranking_identity(graph, "random") == lists and order(graph, "random") == plain
    own = set(plain[-3:])  # answers that no export asked for: the user's own
    campaign.answer(graph, own)
    campaign.make(graph, "random")
    assert order(graph, "random") == [*plain[-3:], *plain[:-3]]


@pytest.mark.full
def test_a_greedy_order_begins_with_annotated_prompts_beyond_its_depth(campaign: Campaign) -> None:
    deep = ("seeds: [0, 1]", "seeds: [0, 1]\nranking_depth: 40")
    graph = campaign.graph(deep)
    campaign.make(graph, "k_center", (32,))
    plain = order(graph, "k_center")
    pool = graph.store.read_table("task_labels").table["prompt_id"].to_pylist()
    beyond = sorted(set(pool) - set(plain))[:3]
    own = {plain[20], *beyond}
    campaign.answer(graph, own)
    kept = campaign.graph(deep, KEPT)
    results = campaign.lists(kept, "k_center", (32,))
    assert order(kept, "k_center") == [plain[20], *beyond, *plain[:20], *plain[21:-3]]
    assert len(order(kept, "k_center")) == 40
    assert all(check.passed for check in kept.checks(results[32]).values())


@pytest.mark.full
def test_cost_stands_in_the_metadata_of_a_list(campaign: Campaign) -> None:
    graph = campaign.graph()
    campaign.lists(graph)
    event = graph.instance.fetch_materializations(dg.AssetKey(["camp", "allocation"]), limit=1).records[0]
    assert event.asset_materialization is not None
    cost = event.asset_materialization.metadata["cost"].value
    assert cost == "32.00 EUR for 64 labels without an answer when this was made, at 0.50 EUR each"
    free = campaign.graph(("{price: 0.5, currency: EUR}", "{instructions: Answer.}"))
    campaign.make(free, "random", (32,))
    footer = free.store.read_footer("allocation", "32|random")
    assert footer is not None and "cost" not in footer.notes


def planned(graph: Graph) -> str:
    """Return the output of `taskdiv plan` on one line, without the lines of tables."""
    out = Console(width=250, file=io.StringIO(), highlight=False)
    found = plan(graph.experiment, graph.store)
    print_plan(out, graph.experiment, found, next_lines("camp", "", found.standing))
    return " ".join(re.sub("[─-╿]", " ", out.file.getvalue()).split())


@pytest.mark.full
def test_a_plan_shows_labels_and_their_cost_by_cell(campaign: Campaign) -> None:
    graph = campaign.graph(("strategies: [min_margin, random, k_center]", "strategies: [min_margin, random]"))
    campaign.make(graph)
    early = planned(graph)
    assert "camp: labels to buy, at 0.50 EUR each budget min_margin random" in early
    assert "32 32 (16.00 EUR) not known yet 64 64 (32.00 EUR) not known yet" in early
    assert "labels to buy: not known yet pool" not in early and "in all" not in early
    campaign.make(graph, "random")
    first = campaign.send_out(graph, 32)
    both = len(chosen(graph, 64) | chosen(graph, 64, "random"))
    said = planned(graph)
    assert f"labels to buy: {both}, of which 32 are sent out, {both / 2:.2f} EUR in all" in said
    assert early.endswith("next: taskdiv run camp")  # one strategy has no list yet
    assert "next: taskdiv annotations export camp --budget 32 --strategy random (" in said
    assert "then: taskdiv annotations import camp FILE (waiting for 32 answers)" in said
    narrow = Console(width=42, file=io.StringIO())
    print_plan(narrow, graph.experiment, plan(graph.experiment, graph.store))
    assert "…" not in narrow.file.getvalue()
    campaign.answer(graph, first)
    campaign.make(graph)
    open_n = {n: len(chosen(graph, n, "random") - first) for n in (32, 64)}
    shown = {n: f"{n} ({n / 2:.2f} EUR)" for n in (0, 32, *open_n.values())}
    assert f"32 {shown[0]} {shown[open_n[32]]} 64 {shown[32]} {shown[open_n[64]]}" in planned(graph)
    assert f"labels to buy: {both - 32}, {(both - 32) / 2:.2f} EUR in all" in planned(graph)
    free = campaign.graph(("{price: 0.5, currency: EUR}", "{instructions: Answer.}"), ("random, k_center", "random"))
    assert f"labels to buy: {both - 32} to train" in planned(free) and "EUR" not in planned(free)


@pytest.mark.full
def test_a_plan_of_a_study_says_what_labels_would_cost(empty_home: Home) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(empty_home.write_experiment("mini"), instance)
        ran(graph.run("pool", "raw_pool", "task_labels", "annotations"))
        said = planned(graph)
        assert "labels to buy: 0, 0.00 in all one list of a study would cost, at 0.50 each: 12 labels 6.00, " in said
        assert "24 labels 12.00, 142 labels 71.00 (nothing is bought if the answers are known)" in said
        free = Graph(empty_home.write_experiment("mini", ("price: 0.5", "price: null")), instance)
        assert "would cost" not in planned(free) and "labels to buy: 0 to train" in planned(free)


def test_a_study_refuses_the_key_with_its_line(tmp_path: Path) -> None:
    text = EXPERIMENT.replace("purpose: campaign", "purpose: study").replace(*KEPT).replace("MODELS", "models")
    path = tmp_path / "camp.yaml"
    path.write_text(text)
    line = next(i for i, line in enumerate(text.splitlines(), start=1) if line.startswith("keep_annotated"))
    with pytest.raises(experiment_file.ExperimentError, match=f":{line}: keep_annotated: for campaigns only"):
        experiment_file.load(str(path))
    path.write_text(text.replace("purpose: study", "purpose: campaign"))
    assert experiment_file.load(str(path)).keep_annotated
    path.write_text(text.replace("purpose: study", "purpose: campaign").replace(": true", ": sometimes"))
    with pytest.raises(experiment_file.ExperimentError, match=f":{line}: keep_annotated: .*found 'sometimes'"):
        experiment_file.load(str(path))
