"""The engine that executes steps: one setting chooses it, and it receives the address of the results but no secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.orchestration import engines, factory, instance
from tests.home import MINIATURE, Home


@pytest.mark.parametrize(
    ("name", "executor"), [("", "in_process"), ("multiprocess", "multiprocess"), ("ray", "ray"), ("k8s", "k8s")]
)
def test_each_engine_has_its_executor(monkeypatch: pytest.MonkeyPatch, name: str, executor: str) -> None:
    monkeypatch.setenv("TASKDIV_EXECUTOR", name)
    assert engines.executor().name == executor


def test_a_name_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_EXECUTOR", "rya")
    with pytest.raises(
        ValueError, match="TASKDIV_EXECUTOR is 'rya'; expected one of in_process, multiprocess, ray, k8s"
    ):
        engines.executor()


@pytest.mark.parametrize(("name", "package"), [("ray", "dagster_ray"), ("k8s", "dagster_k8s")])
def test_packages_that_are_missing_are_named_with_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    monkeypatch.setenv("TASKDIV_EXECUTOR", name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"pip install 'taskdiv-assets\[{name}\]'"):
        engines.executor()


def test_settings_go_along_and_secrets_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = {"TASKDIV_JUDGE_KEY": "s1", "AWS_SECRET_ACCESS_KEY": "s2", "AWS_ACCESS_KEY_ID": "s3", "HF_TOKEN": "s4"}
    ours = {"TASKDIV_HOME": str(tmp_path), "TASKDIV_CHECKPOINT_S": "7", "AWS_ENDPOINT_URL": "http://s3"}
    for key, value in {**secrets, **ours, "TASKDIV_CACHE": "/here"}.items():
        monkeypatch.setenv(key, value)
    told = dict(entry.split("=", 1) for entry in engines.passed_variables())
    assert told.items() >= {**ours, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}.items()
    assert not set(told) & {*secrets, "TASKDIV_CACHE"} and not set(told.values()) & set(secrets.values())


@pytest.mark.parametrize("address", ["s3://me:hunter2@host/bucket", "https://hunter2@host/v1"])
@pytest.mark.parametrize("name", ["TASKDIV_JUDGE_URL", "AWS_ENDPOINT_URL", "TASKDIV_HOME"])
def test_a_password_in_an_address_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, address: str) -> None:
    monkeypatch.setenv(name, address)
    with pytest.raises(ValueError, match=rf"\${name} holds a password") as refused:
        engines.passed_variables()
    assert "hunter2" not in str(refused.value)


def test_a_home_that_is_relative_is_told_as_it_is_found_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKDIV_HOME", "results")
    assert f"TASKDIV_HOME={tmp_path / 'results'}" in engines.passed_variables()


@pytest.mark.parametrize(("name", "crashes_n"), [("in_process", None), ("multiprocess", 3), ("ray", 3), ("k8s", 3)])
def test_a_step_whose_process_dies_is_started_anew(
    monkeypatch: pytest.MonkeyPatch, name: str, crashes_n: int | None
) -> None:
    monkeypatch.setenv("TASKDIV_EXECUTOR", name)
    text, origin = experiments.read_text(str(MINIATURE))
    defs = factory.build(experiments.parse(text, origin), text)
    policies = {asset.op.retry_policy for asset in defs.assets if isinstance(asset, dg.AssetsDefinition)}
    assert {policy and policy.max_retries for policy in policies} == {crashes_n}


def refused(work: Work) -> Product:
    raise ValueError("row 7 has no prompt")


def mistaken(work: Work) -> Product:
    raise KeyError("a mistake of ours")


@pytest.mark.parametrize(
    ("make", "said"), [(refused, "row 7 has no prompt"), (mistaken, "KeyError: 'a mistake of ours'")]
)
def test_a_step_that_says_why_it_failed_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, empty_home: Home, make: Callable[[Work], Product], said: str
) -> None:
    """It would say it again; only a process that died is worth another try."""
    monkeypatch.setenv("TASKDIV_EXECUTOR", "multiprocess")
    text, origin = experiments.read_text(str(MINIATURE))
    stage = REGISTRY["raw_pool"]
    asset = factory.build_asset(experiments.parse(text, origin), text, replace(stage, make=make), None, ())
    with dg.DagsterInstance.ephemeral() as stored:
        result = dg.materialize([asset], instance=stored, raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description == said
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_slots_are_the_cards_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_ACCELERATORS", "64")
    assert instance.slots(2) == 64
    settings = instance.settings_text()
    assert "default_limit: 64" in settings and "max_concurrent_runs: 64" in settings


@pytest.mark.parametrize("name", ["ray", pytest.param("k8s", marks=pytest.mark.full)])
@pytest.mark.full
def test_definitions_with_ray_or_kubernetes_need_no_torch(name: str) -> None:
    """Loading stays quick: each engine's own packages come with it, models do not."""
    program = (
        "import json, sys, taskdiv_assets.definitions; "
        "print(json.dumps([name for name in ('torch', 'transformers', 'ray.data', 'lm_eval') if name in sys.modules]))"
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "TASKDIV_EXECUTOR": name, "TASKDIV_QUIET": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(found.stdout.splitlines()[-1]) == []
