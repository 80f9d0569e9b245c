"""The resources that each step requests: one table, translated for every engine. Steps without a model request no card."""

from __future__ import annotations

import pytest

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.graph.asset import Needs
from taskdiv_assets.graph.needs import GPU_RESOURCE, K8S_TAG, RAY_TAG, op_tags, scorer_needs
from taskdiv_assets.graph.needs import needs as needs_of
from tests.home import MINIATURE

NAMES = [asset.name for asset in REGISTRY]
HOLDS_THE_MODEL = {asset.name for asset in REGISTRY if asset.holds_model}
SHARDED = {asset.name for asset in REGISTRY if asset.is_sharded}
TABLE = REGISTRY["confidence_table"]


def needs(name: str, experiment: Experiment) -> Needs:
    return needs_of(REGISTRY[name], experiment)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEP_GPUS", "STEP_MEMORY_GIB", "SCORERS", "TRAINING_PROCESSES"):
        monkeypatch.delenv(f"TASKDIV_{name}", raising=False)


@pytest.fixture
def large() -> Experiment:
    """Return an experiment with a model from the hub. Nothing is downloaded."""
    return experiments.load("dolly")


@pytest.fixture
def small() -> Experiment:
    return experiments.load(str(MINIATURE))


def test_every_asset_gives_reasons_for_what_it_needs() -> None:
    assert all(one.needs.reason and one.needs.cpus_n > 0 and one.needs.memory_gib > 0 for one in REGISTRY)


def test_a_card_for_what_holds_the_model_and_for_nothing_else(large: Experiment) -> None:
    assert {name for name in NAMES if needs(name, large).gpus_n} == HOLDS_THE_MODEL


def test_the_labs_model_takes_no_card(small: Experiment) -> None:
    assert not any(needs(name, small).gpus_n for name in NAMES)
    assert all(needs(name, small).cpus_n == 1 for name in NAMES)
    assert scorer_needs(TABLE, small).gpus_n == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_engine_is_told_the_same(large: Experiment, name: str) -> None:
    wanted, tags = needs(name, large), op_tags(REGISTRY[name], large)
    ray, resources = tags[RAY_TAG], tags[K8S_TAG]["container_config"]["resources"]
    assert (ray["num_cpus"], ray["num_gpus"]) == (wanted.cpus_n, wanted.gpus_n)
    assert ray["memory"] == wanted.memory_gib * 2**30
    assert resources["requests"]["memory"] == resources["limits"]["memory"] == f"{wanted.memory_gib}Gi"
    assert resources["requests"].get(GPU_RESOURCE) == resources["limits"].get(GPU_RESOURCE)
    assert resources["limits"].get(GPU_RESOURCE) == (str(wanted.gpus_n) if wanted.gpus_n else None)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_without_a_card_does_not_see_the_nodes_cards(large: Experiment, name: str) -> None:
    tags, has_card = op_tags(REGISTRY[name], large), needs(name, large).gpus_n > 0
    pod = {entry["name"]: entry["value"] for entry in tags[K8S_TAG]["container_config"]["env"]}
    seen = tags[RAY_TAG].get("runtime_env", {}).get("env_vars", {})
    assert ("CUDA_VISIBLE_DEVICES" in pod, "CUDA_VISIBLE_DEVICES" in seen) == (not has_card, not has_card)
    assert pod.get("CUDA_VISIBLE_DEVICES", "") == seen.get("CUDA_VISIBLE_DEVICES", "") == ""
    assert bool(tags[K8S_TAG]["pod_spec_config"]) == has_card  # only what has a card tolerates a node of cards


def test_settings_of_the_machine(large: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_TRAINING_PROCESSES", "4")
    assert needs("adapter", large).gpus_n == 4 and needs("benchmark_scores", large).gpus_n == 1
    monkeypatch.setenv("TASKDIV_STEP_MEMORY_GIB", "160")
    assert needs("adapter", large).memory_gib == 160 and needs("ranking", large) == REGISTRY["ranking"].needs
    monkeypatch.setenv("TASKDIV_STEP_GPUS", "0")
    assert not any(needs(name, large).gpus_n for name in NAMES) and scorer_needs(TABLE, large).gpus_n == 0


def test_the_step_that_waits_for_workers_holds_no_card(large: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_SCORERS", "8")
    assert {name for name in NAMES if needs(name, large).gpus_n} == HOLDS_THE_MODEL - SHARDED
    assert scorer_needs(TABLE, large).gpus_n == 1
    monkeypatch.setenv("TASKDIV_STEP_GPUS", "0")  # and no memory for a model that is elsewhere
    assert needs("confidence_table", large).memory_gib <= 8


@pytest.mark.parametrize("name", sorted(SHARDED))
def test_the_step_that_waits_keeps_nothing_from_its_workers(
    large: Experiment, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Ray hands a job's environment on to its actors, and one that is told of no card sees none whatever it is given."""
    monkeypatch.setenv("TASKDIV_SCORERS", "8")
    asked = op_tags(REGISTRY[name], large)[RAY_TAG]
    assert asked["num_cpus"] == asked["num_gpus"] == 0 and "runtime_env" not in asked


@pytest.mark.parametrize("value", ["two", "-1", "1.5", "²"])
@pytest.mark.parametrize("name", ["TASKDIV_STEP_GPUS", "TASKDIV_SCORERS"])
def test_a_setting_that_is_no_number_is_told(
    large: Experiment, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} is '{value}'; expected a whole number"):
        needs("confidence_table", large)
