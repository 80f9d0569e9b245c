"""Let the launcher of `$DAGSTER_HOME` launch one run of a job, as the daemon does, and print the run's id.

python -m tests.deploy.launch_run JOB ASSET
"""

from __future__ import annotations

import sys

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import create_execution_plan
from dagster._core.launcher import LaunchRunContext


def main(name: str, asset: str) -> None:
    chosen = frozenset({dg.AssetKey(asset.split("/"))})
    repository = ReconstructableRepository.for_module("taskdiv_assets.definitions", "defs")
    job = repository.get_reconstructable_job(name).get_subset(asset_selection=chosen)
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(
            job.get_definition(),
            execution_plan=create_execution_plan(job),
            asset_selection=chosen,
            job_code_origin=job.get_python_origin(),
        )
        instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        print(run.run_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
