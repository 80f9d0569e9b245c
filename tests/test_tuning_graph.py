"""Fine-tuning in the graph: a chosen learning rate, whole models, losses that diverge, checkpoints, versions that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from data_contracts.table_paths import table_parts
from taskdiv_assets.assets.tuning_choice import mean_losses, reason
from taskdiv_assets.graph.adapter_plan import kept_or_drawn, trial_prompts
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model.tuning import trainer
from taskdiv_assets.services import training
from taskdiv_assets.tuning_settings import LearningRates
from tests.graph import Graph, failure
from tests.home import Home

pytestmark = pytest.mark.xdist_group("tuning_graph")
CELL = "12|random"
RATE = "learning_rate: 2.0e-3"
CHOICE = "learning_rate: {choose: [1.0e-5, 2.0e-3, 1.0e+30], examples: 24, validation: 16}"


class Bench:
    """Variants of one experiment over one store, so that shared results are found."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance

    def variant(self, *replacements: tuple[str, str]) -> Graph:
        path = self.home.write_experiment(
            "tuned",
            ("[12, 24]", "[12]"),
            ("[random, facility_location, weighted_task_diversity]", "[random, task_diversity]"),
            ("{strategy: weighted_task_diversity, ref", "{strategy: task_diversity, ref"),
            ("full_pool_seeds: [0]", "full_pool_seeds: []"),
            ("seeds: [0, 1]", "seeds: [0]"),
            ("{name: lab}", "{name: lab, split: validation}"),
            *replacements,
        )
        return Graph(path, self.instance)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = Home(tmp_path_factory.mktemp("tuned"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        made = Bench(home, instance)
        instance.add_dynamic_partitions("tuned_budget", ["12"])
        graph = made.variant()
        succeed(graph.run("pool", "raw_pool", "task_labels", "annotations", "base_model"))
        succeed(graph.run("rankings", key="random"))
        succeed(graph.run("cells", "allocation", key=CELL))
        yield made


def succeed(result: dg.ExecuteInProcessResult) -> None:
    assert result.success, failure(result)


def manifest_of(graph: Graph) -> dict[str, Any]:
    (plan,) = graph.lineage().adapter_plans(Cell.parse(CELL))
    manifest = graph.store.read_manifest(plan.identity)
    assert manifest is not None
    return manifest


def drop_table(graph: Graph, asset: str, key: str | None = None) -> None:
    graph.store.remove(*table_parts(asset, key))


class TestChoice:
    def test_the_rate_with_the_lowest_loss_on_other_prompts_is_used_everywhere(self, bench: Bench) -> None:
        graph = bench.variant((RATE, CHOICE))
        refused = graph.run("cells", "adapter", key=CELL)
        assert "tuning_choice is not there yet; run `taskdiv run tuned`" in failure(refused)
        succeed(graph.run("pool", "tuning_choice"))
        stored = graph.store.read_table("tuning_choice")
        rows = stored.table.to_pylist()
        assert [row["learning_rate"] for row in rows] == [1e-5, 2e-3, 1e30]
        assert rows[2]["validation_loss"] is None and rows[1]["validation_loss"] < rows[0]["validation_loss"]
        assert {(row["examples_n"], row["validation_n"]) for row in rows} == {(24, 16)}
        assert stored.footer.notes["learning_rate"] == 2e-3
        rule = next(rule for rule in stored.footer.rules if rule.rule == "no_rate_diverged")
        assert not rule.passed and rule.unexpected_n == 1
        succeed(graph.run("cells", "adapter", key=CELL))
        footer = graph.store.read_footer("adapter", CELL)
        assert footer is not None and footer.notes["tuning"]["learning_rate"] == 2e-3
        # The same rate, named in the file: the adapter is found, since nothing that makes it differs.
        named = bench.variant()
        assert named.lineage().is_fresh(Unit("adapter", CELL))

    def test_what_judges_is_not_trained_on_and_neither_depends_on_the_order(self) -> None:
        rates = LearningRates(choose=(1e-4, 1e-3), validation=10)
        ids = [f"{n:016x}" for n in range(100)]
        drawn = trial_prompts(ids, rates, 40)
        assert (len(drawn.training), len(drawn.validation)) == (40, 10)
        assert not set(drawn.training) & set(drawn.validation)
        assert trial_prompts(reversed(ids), rates, 40) == drawn
        assert len(trial_prompts(ids[:30], rates, 40).validation) == 6
        with pytest.raises(ValueError, match="at least 20, and 19 have an answer; import answers first"):
            trial_prompts(ids[:19], rates, 40)

    def test_answers_that_come_later_change_no_choice(self) -> None:
        rates = LearningRates(choose=(1e-4, 1e-3), validation=10)
        answers: dict[str, str | None] = {f"{n:016x}": "x" if n < 100 else None for n in range(200)}
        drawn = kept_or_drawn(answers, rates, 40, {})
        notes = {"training": list(drawn.training), "validation": list(drawn.validation)}
        more = {**answers, **dict.fromkeys(list(answers)[100:], "y")}
        assert kept_or_drawn(more, rates, 40, notes) == drawn != kept_or_drawn(more, rates, 40, {})
        # Not while there were fewer than were asked for, nor where an answer is gone.
        assert kept_or_drawn(more, rates, 60, notes) == kept_or_drawn(more, rates, 60, {})
        assert kept_or_drawn({**more, drawn.training[0]: None}, rates, 40, notes) != drawn

    def test_a_rate_that_diverged_with_one_seed_is_out_and_an_edge_is_named(self) -> None:
        trials = [
            {"learning_rate": 1e-3, "validation_loss": 1.0},
            {"learning_rate": 1e-3},
            {"learning_rate": 1e-4, "validation_loss": 2.0},
            {"learning_rate": 1e-4, "validation_loss": 3.0},
        ]
        means = mean_losses(trials)
        assert means == {1e-4: 2.5}
        said = reason(means, 1e-4, LearningRates(choose=(1e-4, 1e-3)))
        assert said.endswith("(0.0001: 2.5000 nats a token). It is the smallest: try smaller ones")


class TestWholeModels:
    @pytest.mark.full
    def test_they_are_trained_scored_and_held_to_their_hash(self, bench: Bench) -> None:
        graph = bench.variant(("method: lora", "method: full"))
        succeed(graph.run("pool", "base_scores"))
        succeed(graph.run("cells", "adapter", "benchmark_scores", key=CELL))
        manifest = manifest_of(graph)
        assert "model.safetensors" in manifest["files"] and "adapter_model.safetensors" not in manifest["files"]
        row = graph.store.read_table("adapter", CELL).table.to_pylist()[0]
        assert row["sha256"] == manifest["files"]["model.safetensors"]["sha256"]
        scores = graph.store.read_table("benchmark_scores", CELL).table
        assert scores.num_rows == graph.store.read_table("base_scores").table.num_rows


class TestDivergence:
    def test_the_seed_stops_with_a_sentence_and_the_log_is_kept(self, bench: Bench) -> None:
        graph = bench.variant((RATE, "learning_rate: 1.0e+30"), ("epochs: 1", "epochs: 2"))
        result = graph.run("cells", "adapter", key=CELL)
        said = failure(result)
        assert "training seed 0: the loss is " in said and "lower `tuning.learning_rate`" in said
        path = Path(said.rpartition(" are in ")[2])
        note = json.loads(path.read_text())
        assert note["seed"] == 0 and note["cell"] == CELL and note["losses"]
        (plan,) = graph.lineage().adapter_plans(Cell.parse(CELL))
        assert path == Path(graph.store.path("failures", f"{plan.identity}.json"))
        assert not graph.store.is_whole(plan.identity)


class TestCheckpoints:
    @pytest.mark.full
    def test_a_stopped_seed_goes_on_from_the_store_and_leaves_nothing_behind(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TASKDIV_CHECKPOINT_S", "0")
        graph = bench.variant(("epochs: 1", "epochs: 4"))
        real = training.run

        def stopped(work: Any, examples: Any, tuning: Any, seed: Any, out: Any, progress: Any, keeper: Any) -> Any:
            return real(work, examples, tuning, seed, out, _Stopping(), keeper)

        monkeypatch.setattr(training, "run", stopped)
        assert not graph.run("cells", "adapter", key=CELL).success
        (plan,) = graph.lineage().adapter_plans(Cell.parse(CELL))
        assert graph.store.names("checkpoints") == [f"{plan.identity}.safetensors"]
        monkeypatch.setattr(training, "run", real)
        resumed: list[int] = []
        restore = trainer.checkpoints.restore
        monkeypatch.setattr(
            trainer.checkpoints,
            "restore",
            lambda found, *rest: (resumed.append(len(found.losses)), restore(found, *rest)),
        )
        succeed(graph.run("cells", "adapter", key=CELL))
        assert resumed == [4]
        assert manifest_of(graph)["steps_n"] == 8
        assert graph.store.names("checkpoints") == []

    def test_seconds_that_are_no_number(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TASKDIV_CHECKPOINT_S", "often")
        with pytest.raises(ValueError, match=r"\$TASKDIV_CHECKPOINT_S is 'often'; expected seconds"):
            bench.variant(("epochs: 1", "epochs: 2"))


class _Stopping:
    """Progress that raises at the fifth step."""

    def __call__(self, done: int, total: int, also: str = "") -> None:
        assert "loss " in also and ("tokens/s" in also or done == 1)
        if done == 5:
            raise ValueError("stopped")


@pytest.mark.full
def test_other_versions_are_told_and_change_nothing(bench: Bench) -> None:
    graph = bench.variant()
    succeed(graph.run("cells", "adapter", key=CELL))
    manifest = manifest_of(graph)
    versions = {**manifest["environment"]["versions"], "torch": "1.0"}
    graph.store.put(
        json.dumps({**manifest, "environment": {**manifest["environment"], "versions": versions}}).encode(),
        "folders", manifest["identity"], "manifest.json",
    )  # fmt: skip
    drop_table(graph, "adapter", CELL)
    succeed(graph.run("cells", "adapter", key=CELL))
    footer = graph.store.read_footer("adapter", CELL)
    assert footer is not None and footer.notes["other_versions"]["0"].startswith("torch 1.0 (now ")
    assert graph.lineage().is_fresh(Unit("adapter", CELL))
    kept = replace(footer, notes={**footer.notes, "other_versions": {}})
    assert kept.identity == footer.identity


def test_what_was_decided_is_noted_with_reasons(bench: Bench) -> None:
    graph = bench.variant()
    succeed(graph.run("cells", "adapter", key=CELL))
    footer = graph.store.read_footer("adapter", CELL)
    assert footer is not None
    assert set(footer.notes["choices"]["0"]) == {"rows", "passes", "steps", "activations", "processes"}
    assert footer.notes["choices"]["0"]["steps"] == "2 of 8 examples"
