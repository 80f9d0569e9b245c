"""The definitions of one experiment with a Dagster instance for tests, run job by job in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

import data_contracts
from data_contracts.footer import Footer
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.orchestration import factory
from taskdiv_assets.orchestration.asset_paths import FULL_POOL, place
from taskdiv_assets.orchestration.produce import in_contract_order, prepared
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


def make_unit(experiment: Experiment, store: Store, unit: Unit) -> None:
    """Make a unit that is not fresh by calling its asset directly, because a step of Dagster takes seconds."""
    lineage = REGISTRY.look(experiment, store)
    if lineage.is_fresh(unit):
        return
    asset = REGISTRY[unit.asset]
    work = prepared(Work(experiment, store, lineage, unit, lineage.expect(unit), str), asset)
    product, expected = asset.make(work), work.expected
    for path, content in product.files.items():
        store.put(content, *path.split("/"))
    footer = Footer(
        asset=unit.asset, key=unit.key, identity=expected.identity, inputs=expected.inputs, code_version=asset.code_version,
        run_id="", started_at="", finished_at="", wall_s=0.0, rules=(), parts=product.parts, environment={},
        notes=product.notes,
    )  # fmt: skip
    store.write_table(in_contract_order(product.table, data_contracts.load(unit.asset).arrow_schema), footer)


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Return the error message of the first failed step; empty if no step failed."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            return str((data.user_failure_data and data.user_failure_data.description) or data.error)
    return ""
