"""Where the steps of a run are carried out: in its own process, in one each, on a Ray cluster, or as Kubernetes jobs.

`$TASKDIV_EXECUTOR` chooses among Dagster's own executors; nothing here schedules, queues or retries. What a step asks its engine
for stands in `needs`; how a pool is shared out among several cards, in `assets.shards`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

import dagster as dg

from taskdiv_assets.storage.store import home

VARIABLE = "TASKDIV_EXECUTOR"
Engine = Literal["in_process", "multiprocess", "ray", "k8s"]
CRASHES_N = 3  # of a step's process, worker or pod, before the step fails: pre-emption is no fault of the step
CRASH_WAIT_S = 2.0
# Imported once by the server that a run's step processes are forked from: 25 s for the four steps of a cell, else.
PRELOADED = ("taskdiv_assets.definitions", "torch", "transformers", "peft", "trl", "lm_eval", "great_expectations")
# What a worker elsewhere has to be told. Never a secret: runtime environments and job specs can be read by others.
PASSED = (
    "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "HF_HUB_OFFLINE",
    "DAGSTER_PG_HOST", "DAGSTER_PG_USERNAME", "DAGSTER_PG_DB",
)  # fmt: skip
OWN_TO_A_MACHINE = frozenset({"TASKDIV_HOME", "TASKDIV_CACHE", "TASKDIV_QUIET"})


def engine() -> Engine:
    """The engine that `$TASKDIV_EXECUTOR` names; `in_process` unless it is set.

    Raises:
        ValueError: it names none of them.
    """
    name = os.environ.get(VARIABLE) or "in_process"
    if name not in get_args(Engine):
        raise ValueError(f"${VARIABLE} is {name!r}; expected one of {', '.join(get_args(Engine))}")
    return cast("Engine", name)


def executor() -> dg.ExecutorDefinition:
    """Dagster's executor for the engine that is set.

    Raises:
        ValueError: the setting names no engine, or one whose packages are not installed.
    """
    name = engine()
    if name == "in_process":  # the steps of a run share its process: one a step would import torch and its friends anew
        return dg.in_process_executor
    if name == "multiprocess":
        forked = {"start_method": {"forkserver": {"preload_modules": list(PRELOADED)}}}
        return dg.multiprocess_executor.configured(forked)
    try:
        if name == "ray":
            from dagster_ray import ray_executor

            return ray_executor.configured({"ray": {"env_vars": told()}})
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor.configured({"env_vars": told("RAY_ADDRESS")})
    except ImportError as error:
        raise ValueError(
            f"${VARIABLE}={name} needs packages that are not here ({error}); "
            f"install them with `pip install 'taskdiv-assets[{name}]'`"
        ) from None


def told(*also: str) -> list[str]:
    """Settings that a step elsewhere is given, as NAME=VALUE: where the results are, and the project's own that are no secret.

    Args:
        also: other variables that it needs; a job of Ray is told of its cluster by Ray.

    Raises:
        ValueError: an address holds a password, which everybody who may look at a job would read.
    """
    ours = sorted(name for name in os.environ if name.startswith("TASKDIV_") and not name.endswith("_KEY"))
    names = [
        *(name for name in ours if name not in OWN_TO_A_MACHINE),
        *(name for name in (*PASSED, *also) if name in os.environ),
    ]
    threads = os.environ.get("OMP_NUM_THREADS", "1")  # results are the same to the last bit with one thread
    values = {"TASKDIV_HOME": home(), "OMP_NUM_THREADS": threads, **{name: os.environ[name] for name in names}}
    for name, value in values.items():
        if "://" in value and "@" in urlsplit(value).netloc:
            raise ValueError(
                f"${name} holds a password, and jobs elsewhere are told it in clear; "
                "give them the password by a secret or by the environment of their machines, and leave it out of the address"
            )
    return [f"{name}={value}" for name, value in values.items()]


def refuse_without_launcher(instance: dg.DagsterInstance) -> None:
    """The jobs of steps take image, volumes, account and secrets from the launcher of runs; without one Dagster would stumble.

    Raises:
        ValueError: the instance's launcher is another.
    """
    from dagster_k8s import K8sRunLauncher

    launcher = instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise ValueError(
            f"${VARIABLE}=k8s takes image, volumes and secrets of its jobs from a K8sRunLauncher in "
            f"$DAGSTER_HOME/dagster.yaml, and finds {type(launcher).__name__}; docs/deploy/dagster.yaml shows one"
        )


def retry_policy() -> dg.RetryPolicy | None:
    """How often a step whose process, worker or pod was killed is started anew; what it had stored is found.

    In a run's own process there is nothing that could start it again: there Dagster's `run_retries` begins the run anew.
    """
    return None if engine() == "in_process" else dg.RetryPolicy(max_retries=CRASHES_N, delay=CRASH_WAIT_S)


def load_also(experiment: str) -> None:
    """Have `definitions.defs` hold a built-in experiment that is not shown by default, here and in the processes of steps.

    These are given `$TASKDIV_EXPERIMENTS` like the project's other settings.
    """
    from taskdiv_assets import definitions
    from taskdiv_assets.experiment import experiment_file

    if experiment in definitions.shown(()) or experiment not in experiment_file.built_in_names():
        return
    asked = os.environ.get(definitions.EXPERIMENTS, "")
    os.environ[definitions.EXPERIMENTS] = ",".join(filter(None, [asked, experiment]))
    definitions.defs = definitions.build()


def execute(
    name: str,
    assets: Sequence[dg.AssetKey],
    key: str | None,
    instance: dg.DagsterInstance,
    *,
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> dg.JobExecutionResult:
    """One run of a job of `definitions`, its steps carried out by the engine that is set.

    Args:
        name: of the job.
        assets: those of it that are materialised.
        key: the partition.
        instance: one that is stored: steps elsewhere write to it too.
        run_config: of the run.
        tags: of the run.

    Raises:
        ValueError: the steps are to be Kubernetes jobs, and the instance does not say of which image.
    """
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    if engine() == "k8s":
        refuse_without_launcher(instance)
    load_also(assets[0].path[0])
    job = ReconstructableRepository.for_module("taskdiv_assets.definitions", "defs").get_reconstructable_job(name)
    partition = {} if key is None else job.get_definition().get_tags_for_partition_key(key, assets)
    return dg.execute_job(
        job, instance, run_config=run_config, tags={**tags, **partition}, asset_selection=assets, raise_on_error=False
    )
