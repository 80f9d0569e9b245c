"""Where the steps of a run are executed: in the run's process, in one process each, on a Ray cluster, or as Kubernetes jobs.

`$TASKDIV_EXECUTOR` selects one of Dagster's own executors. Nothing here schedules, queues or retries. The resources that a step
requests are in `graph.needs`; how a pool is divided among several GPUs is in `services.shards`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import dagster as dg

from taskdiv_assets.settings import FIELDS, SECRETS, given, machine
from taskdiv_assets.storage.store import home

CRASHES_N = 3  # of a step's process, worker or pod, before the step fails: pre-emption is not a fault of the step
CRASH_WAIT_S = 2.0
# Imported once by the server that forks a run's step processes; otherwise the four steps of a cell take 25 s to import them.
PRELOADED = ("torch", "transformers", "peft", "trl", "lm_eval", "great_expectations")
# Variables of libraries that a remote worker needs. Never a secret: others can read runtime environments and job specs.
PASSED = (
    "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "HF_HUB_OFFLINE",
    "DAGSTER_PG_HOST", "DAGSTER_PG_USERNAME", "DAGSTER_PG_DB",
)  # fmt: skip
OWN_TO_A_MACHINE = frozenset({"TASKDIV_HOME", "TASKDIV_CACHE", "TASKDIV_QUIET"})


def executor(definitions: str = "taskdiv_assets.orchestration.code_location") -> dg.ExecutorDefinition:
    """Return Dagster's executor for the engine that `$TASKDIV_EXECUTOR` names.

    Args:
        definitions: module that the process of a step loads its asset from; `multiprocess` imports it once for all steps.

    Raises:
        ValueError: the variable names no engine, or one whose packages are not installed.
    """
    name = machine().executor
    if name == "in_process":  # the steps of a run share a process: separate processes would each import torch again
        return dg.in_process_executor
    if name == "multiprocess":
        forked = {"start_method": {"forkserver": {"preload_modules": [definitions, *PRELOADED]}}}
        return dg.multiprocess_executor.configured(forked)
    try:
        if name == "ray":
            from dagster_ray import ray_executor

            return ray_executor.configured({"ray": {"env_vars": passed_variables()}})
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor.configured({"env_vars": passed_variables("RAY_ADDRESS")})
    except ImportError as error:
        raise ValueError(
            f"$TASKDIV_EXECUTOR={name} needs packages that are not installed ({error}); "
            f"install them with `pip install 'taskdiv-assets[{name}]'`"
        ) from None


def passed_variables(*also: str) -> list[str]:
    """Return the variables that a remote step gets, as NAME=VALUE: the project's own, without secrets, and some of libraries.

    Args:
        also: more variables that it needs; Ray itself tells its jobs which cluster they belong to.

    Raises:
        ValueError: an address holds a password, which everyone who can see a job could read.
    """
    ours = [name for name in sorted(FIELDS) if name.startswith("TASKDIV_") and name not in SECRETS | OWN_TO_A_MACHINE]
    # With one thread, results are equal to the last bit.
    values = {"TASKDIV_HOME": home(), "OMP_NUM_THREADS": machine().threads, **given([*ours, *PASSED, *also])}
    for name, value in values.items():
        if "://" in value and "@" in urlsplit(value).netloc:
            raise ValueError(
                f"${name} holds a password, and jobs on other machines get this variable in clear text; "
                "remove the password from the address and give it to them in a secret or in the environment of their machines"
            )
    return [f"{name}={value}" for name, value in values.items()]


def refuse_without_launcher(instance: dg.DagsterInstance) -> None:
    """Raise an error unless the instance launches runs on Kubernetes.

    The jobs of steps take image, volumes, account and secrets from the run launcher; without one, Dagster would fail without a
    clear reason.

    Raises:
        ValueError: the instance has another launcher.
    """
    from dagster_k8s import K8sRunLauncher

    launcher = instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise ValueError(
            f"$TASKDIV_EXECUTOR=k8s takes image, volumes and secrets of its jobs from a K8sRunLauncher in "
            f"$DAGSTER_HOME/dagster.yaml, and finds {type(launcher).__name__}; docs/deploy/dagster.yaml shows one"
        )


def retry_policy() -> dg.RetryPolicy | None:
    """Return how often a step restarts after its process, worker or pod was killed; results that it had stored are reused.

    In the process of a run, nothing could restart a step: there Dagster's `run_retries` restarts the run.
    """
    if machine().executor == "in_process":
        return None
    return dg.RetryPolicy(max_retries=CRASHES_N, delay=CRASH_WAIT_S)


def execute(
    name: str,
    assets: Sequence[dg.AssetKey],
    key: str | None,
    instance: dg.DagsterInstance,
    *,
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> dg.JobExecutionResult:
    """Execute one run of an experiment's job; its steps run where `$TASKDIV_EXECUTOR` says.

    Args:
        name: of the job.
        assets: assets of the job to materialise; the first part of their keys is the experiment's name.
        key: of the partition.
        instance: with storage, since steps on other machines write to it too.
        run_config: of the run.
        tags: of the run.

    Raises:
        ValueError: the steps are Kubernetes jobs, and the instance does not name their image.
    """
    if machine().executor == "k8s":
        refuse_without_launcher(instance)
    pointer: dict[str, object] = {"experiment": assets[0].path[0], "name": name}
    job = dg.build_reconstructable_job(
        "taskdiv_assets.orchestration.code_location", "job_of", reconstructable_kwargs=pointer
    )
    partition = {} if key is None else job.get_definition().get_tags_for_partition_key(key, assets)
    return dg.execute_job(
        job, instance, run_config=run_config, tags={**tags, **partition}, asset_selection=assets, raise_on_error=False
    )
