"""The definitions of one experiment with a Dagster instance for tests, run job by job in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.orchestration import factory
from taskdiv_assets.orchestration.asset_paths import FULL_POOL, place
from taskdiv_assets.storage.store import Store


class Graph:
    """The definitions of one experiment, its store, and the Dagster instance that records its runs."""

    def __init__(self, path: Path, instance: dg.DagsterInstance) -> None:
        text, origin = experiments.read_text(str(path))
        self.experiment: Experiment = experiments.parse(text, origin)
        self.defs = factory.build(self.experiment, text)
        self.instance = instance
        self.store = Store(self.experiment.name)

    def run(self, job: str, *assets: str, key: str | None = None) -> dg.ExecuteInProcessResult:
        names = assets or factory.jobs(self.experiment)[job]
        paths = [place(self.experiment.name, name, is_full_pool=job == FULL_POOL).path for name in names]
        return self.defs.resolve_job_def(f"{self.experiment.name}_{job}").execute_in_process(
            instance=self.instance, partition_key=key, asset_selection=[*map(dg.AssetKey, paths)], raise_on_error=False
        )

    def lineage(self) -> Lineage:
        return REGISTRY.look(self.experiment, self.store)

    def checks(self, result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], Any]:
        return {(entry.asset_key.path[-1], entry.check_name): entry for entry in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Return the error message of the first failed step; empty if no step failed."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            return str((data.user_failure_data and data.user_failure_data.description) or data.error)
    return ""
