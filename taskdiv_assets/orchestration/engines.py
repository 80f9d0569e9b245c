"""Engines that execute the steps of a run: in the run's process, in a process per step, on a Ray cluster, or as Kubernetes jobs.

`$TASKDIV_EXECUTOR` selects one of Dagster's executors. `graph.needs` contains the resources that a step requests.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import dagster as dg

from taskdiv_assets.storage.machine import FIELDS, SECRETS, given, machine
from taskdiv_assets.storage.store import home

CRASHES_N = 3  # largest number of restarts of a step whose process, worker or pod was killed
CRASH_WAIT_S = 2.0
# The server process that forks the step processes imports these modules once. Otherwise, the four steps of a cell spend 25 s on
# these imports.
PRELOADED = ("torch", "transformers", "peft", "trl", "lm_eval", "great_expectations")
# Variables of libraries that a remote worker needs. Secrets are left out: other users can read environments and job specs.
PASSED = (
    "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "HF_HUB_OFFLINE",
    "DAGSTER_PG_HOST", "DAGSTER_PG_USERNAME", "DAGSTER_PG_DB",
)  # fmt: skip
OWN_TO_A_MACHINE = frozenset({"TASKDIV_HOME", "TASKDIV_CACHE", "TASKDIV_QUIET"})


def executor(definitions: str = "taskdiv_assets.orchestration.code_location") -> dg.ExecutorDefinition:
    """Return Dagster's executor for `$TASKDIV_EXECUTOR`. `multiprocess` imports the module `definitions` once for all steps.

    Raises:
        ValueError: the packages of the engine are not installed, or `passed_variables` finds a password.
    """
    name = machine().executor
    if name == "in_process":  # all steps of a run share one process, so torch is imported once
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
    """Return NAME=VALUE for each environment variable that a remote step gets.

    These are the variables of the project, of `PASSED` and of `also` that are set. Secrets and variables that concern one
    machine, such as TASKDIV_CACHE, are left out. TASKDIV_HOME and OMP_NUM_THREADS are always included.

    Raises:
        ValueError: an address contains a password. Everyone who can see a job could read the password.
    """
    ours = [name for name in sorted(FIELDS) if name.startswith("TASKDIV_") and name not in SECRETS | OWN_TO_A_MACHINE]
    # A thread count is always passed: a different number of threads may change the last bits of a result.
    values = {"TASKDIV_HOME": home(), "OMP_NUM_THREADS": machine().threads, **given([*ours, *PASSED, *also])}
    for name, value in values.items():
        if "://" in value and "@" in urlsplit(value).netloc:
            raise ValueError(
                f"${name} holds a password, and jobs on other machines get this variable in clear text; "
                "remove the password from the address and give it to them in a secret or in the environment of their machines"
            )
    return [f"{name}={value}" for name, value in values.items()]


def refuse_without_launcher(instance: dg.DagsterInstance) -> None:
    """Raise ValueError unless the instance launches runs on Kubernetes.

    The Kubernetes jobs of steps get image, volumes, account and secrets from the run launcher. With another launcher, Dagster
    would fail with an unclear error.
    """
    from dagster_k8s import K8sRunLauncher

    launcher = instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise ValueError(
            f"$TASKDIV_EXECUTOR=k8s takes image, volumes and secrets of its jobs from a K8sRunLauncher in "
            f"$DAGSTER_HOME/dagster.yaml, and finds {type(launcher).__name__}; docs/deploy/dagster.yaml shows one"
        )


def retry_policy() -> dg.RetryPolicy | None:
    """Return the retry policy for steps whose process, worker or pod was killed. A restarted step reuses its stored results.

    Return None for `in_process`: a step cannot restart in a dead process, so Dagster's `run_retries` restarts the run instead.
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
    """Execute one run of the job `name` with the engine of `$TASKDIV_EXECUTOR`. `key` is the partition's key, or None.

    The first component of the keys in `assets` is the experiment's name. The storage of `instance` must be persistent, because
    steps in other processes use the same storage.
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
