"""Let dagster-k8s launch the runs and steps of some experiments in a separate process, without waiting for their end.

    python -m tests.deploy.launch_every_step EXPERIMENT EXPERIMENT ASSET…

`$DAGSTER_HOME` has the launcher, `$TASKDIV_HOME` has the experiments, and `$TASKDIV_EXECUTOR` is k8s. All code is that of
dagster-k8s, from the executor in the definitions to the body that is sent. The arguments of a step name the instance of
docs/deploy, so the tests see what a cluster would receive.
"""

from __future__ import annotations

import sys

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.context_creation_job import (
    PlanOrchestrationContextManager,
    orchestration_context_event_generator,
)
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext
from dagster._grpc.types import ExecuteStepArgs

from taskdiv_assets.orchestration import factory
from tests.deploy.instances import DEPLOY


def main(experiments: list[str], assets: list[str]) -> None:
    repository = ReconstructableRepository.for_module("taskdiv_assets.definitions", "defs")
    with dg.DagsterInstance.get() as instance:
        for experiment in experiments:
            for suffix in factory.JOB_DESCRIPTIONS:
                launch(repository.get_reconstructable_job(f"{experiment}_{suffix}"), instance, assets)


def launch(job: ReconstructableJob, instance: dg.DagsterInstance, assets: list[str]) -> None:
    """Launch the job of one run, and of each step that makes one of these assets."""
    plan = create_execution_plan(job)
    origin = job.get_python_origin()
    run = instance.create_run_for_job(job.get_definition(), execution_plan=plan, job_code_origin=origin)
    instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
    manager = PlanOrchestrationContextManager(
        orchestration_context_event_generator, job, plan, run_config={}, dagster_run=run, instance=instance
    )
    list(manager.prepare_context())
    context = manager.get_context()
    executor = context.executor
    assert isinstance(executor, StepDelegatingExecutor)
    for step in plan.get_all_steps_in_topo_order():
        if step.key.partition("__")[2] not in assets:
            continue
        arguments = ExecuteStepArgs(
            job_origin=origin,
            run_id=run.run_id,
            step_keys_to_execute=[step.key],
            instance_ref=InstanceRef.from_dir(str(DEPLOY)),
            retry_mode=RetryMode.DISABLED,
            known_state=plan.known_state,
            should_verify_step=True,
        )
        handled = StepHandlerContext(instance, context, [step], arguments, dagster_run=run)
        list(executor._step_handler.launch_step(handled))
    list(manager.shutdown_context())


if __name__ == "__main__":
    main(sys.argv[1:3], sys.argv[3:])
