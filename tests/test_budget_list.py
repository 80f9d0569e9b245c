"""The list of budgets in Dagster's partition dialog."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph import cells
from taskdiv_assets.orchestration import budget_list
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE, Home

EXPERIMENT = experiment_file.load(str(MINIATURE))
NAME = "miniature_budget"


@pytest.fixture
def instance(empty_home: Home) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def listed(instance: dg.DagsterInstance) -> list[str]:
    budget_list.bring_up_to_date(EXPERIMENT, instance)
    return list(instance.get_dynamic_partitions(NAME))


def test_budgets_are_listed_by_size_whenever_they_were_added(instance: dg.DagsterInstance) -> None:
    assert listed(instance) == ["12", "24"]
    cells.register(Store("miniature"), 100)
    assert budget_list.bring_up_to_date(EXPERIMENT, instance) == [100]
    instance.add_dynamic_partitions(NAME, ["60x", "16", "9"])  # typed in the UI
    assert listed(instance) == ["9", "12", "16", "24", "100", "60x"]


def test_records_of_a_budget_outlive_its_move(instance: dg.DagsterInstance) -> None:
    listed(instance)
    key = dg.AssetKey(["miniature", "allocation"])
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="24|random"))
    instance.add_dynamic_partitions(NAME, ["16"])
    assert listed(instance) == ["12", "16", "24"]
    assert instance.get_materialized_partitions(key) == {"24|random"}


def test_the_full_pool_is_no_budget_that_can_be_ticked(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(NAME, ["12", "24", "142"])  # as earlier versions did
    cells.register(Store("miniature"), 142, is_full=True)
    assert listed(instance) == ["12", "24"]


def test_nothing_is_removed_while_a_run_goes_on(instance: dg.DagsterInstance) -> None:
    listed(instance)
    instance.add_dynamic_partitions(NAME, ["16"])
    cells.register(Store("miniature"), 20)
    run = dg.DagsterRun("miniature_cells", tags={"experiment": "miniature"}, status=dg.DagsterRunStatus.STARTED)
    instance.run_storage.add_run(run)
    assert listed(instance) == ["12", "24", "16", "20"]
    instance.delete_run(run.run_id)
    assert listed(instance) == ["12", "16", "20", "24"]
