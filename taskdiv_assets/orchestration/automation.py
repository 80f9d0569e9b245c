"""The condition for a new report by Dagster's daemon: the stored report is not fresh, and none of its inputs is being made.

An asset must also have been materialised since the condition was last evaluated, so a failed report is requested again
only after a change.
"""

import json

import dagster as dg

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.variants import variants_of
from taskdiv_assets.graph.scoring_plan import SCORES
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.store import Store

REPORT = Unit("strategy_report")


class ReportIsDue(dg.AutomationCondition[dg.AssetKey]):
    """Condition that is true if the stored report is out of date and an asset was materialised since the last evaluation.

    Dagster's built-in conditions miss a report that `taskdiv run` made before the daemon's first evaluation, so this condition
    reads the store. The cursor contains the newest materialisation of each asset except the report. The store is read only if
    the cursor changes, so a failed report is requested again only after a change. An evaluation without changes only queries
    Dagster's records.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    @property
    def description(self) -> str:
        return "an asset was materialised that the stored report does not include"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Return a result that requests the report if the cursor changes and the report is due (see `is_report_due`).

        Request nothing if another condition of `when_due` is false.
        """
        if context.candidate_subset.is_empty:
            return dg.AutomationResult(context, context.get_empty_subset(), cursor=context.cursor)
        seen = newest(self.experiment, context.asset_graph_view.instance)
        is_due = seen != context.cursor and is_report_due(self.experiment)
        subset = context.candidate_subset if is_due else context.get_empty_subset()
        return dg.AutomationResult(context, subset, cursor=seen)


def newest(experiment: Experiment, instance: dg.DagsterInstance) -> str:
    """Return, as JSON, the id of the newest materialisation of each asset of an experiment and its variants except the report."""
    names = [experiment.name, *(one.name for one in variants_of(experiment))]
    keys = [key for name in names for key in instance.get_asset_keys(prefix=[name])]
    group = [key for key in keys if key.path[-1] != REPORT.asset]
    entries = [record.asset_entry for record in instance.get_asset_records(group)]
    ids = {entry.asset_key.to_user_string(): entry.last_materialization_storage_id for entry in entries}
    return json.dumps(ids, sort_keys=True)


def is_report_due(experiment: Experiment) -> bool:
    """Return True if there are results to report, and the stored report is missing or out of date.

    Results to report are scores and, in a campaign, allocations.
    """
    store = Store(experiment.name)
    lineage = REGISTRY.look(experiment, store)
    worth = SCORES | {"allocation"} if experiment.purpose == "campaign" else SCORES
    units = [unit for unit in REGISTRY.units(experiment, store, lineage.pool_size) if unit.asset in worth]
    has_news = any(lineage.footer(unit) is not None for unit in lineage.look_ahead(units))
    return has_news and not lineage.is_fresh(REPORT)


def when_due(experiment: Experiment) -> dg.AutomationCondition[dg.AssetKey]:
    """Return the complete condition of the report: `ReportIsDue`, and neither the report nor one of its inputs is being made."""
    condition = dg.AutomationCondition
    return (~condition.any_deps_in_progress() & ~condition.in_progress() & ReportIsDue(experiment)).with_label(
        "the report is out of date, and none of its inputs is being made"
    )
