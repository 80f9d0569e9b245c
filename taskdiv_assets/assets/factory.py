"""One factory that turns an experiment into its group of assets, jobs and sensors.

What the assets do is in the stages; how a result is looked up and published is in `produce`. Here stands only what Dagster
has to know before anything runs: keys, partitions, checks, pools, jobs, and what fires by itself.
"""

from collections.abc import Collection, Iterator
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

import data_contracts
from taskdiv_assets import cells, engines
from taskdiv_assets.assets import (
    adapter,
    annotations,
    confidence,
    confidence_accuracy,
    confidence_comparison,
    embeddings,
    pool,
    ranking,
    report,
    scores,
    tuning_choice,
)
from taskdiv_assets.assets.produce import Events, produce
from taskdiv_assets.assets.stage import Stage
from taskdiv_assets.engines.needs import op_tags
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.identity import CODE_VERSIONS
from taskdiv_assets.lineage import Lineage
from taskdiv_assets.store import Store
from taskdiv_assets.units import ranked_strategies, run_tags, used_assets

STAGES: tuple[Stage, ...] = (
    *pool.STAGES,
    *confidence.STAGES,
    *confidence_comparison.STAGES,
    *confidence_accuracy.STAGES,
    *embeddings.STAGES,
    *ranking.STAGES,
    *annotations.STAGES,
    *tuning_choice.STAGES,
    *adapter.STAGES,
    *scores.STAGES,
    *report.STAGES,
)
ACCELERATOR_POOL = "accelerator"
BUDGET_SENSOR_S = 30
REPORT_SENSOR_S = 30
LOOKED_AT = frozenset({"raw_pool", "strategy_report"})  # what comes from outside, and what people read


def budget_partitions(experiment: str) -> dg.DynamicPartitionsDefinition:
    """The budgets of an experiment: more can be added at any time, in the UI too."""
    return dg.DynamicPartitionsDefinition(name=f"{experiment}_budget")


def when_scores_change(experiment: Experiment) -> dg.AutomationCondition[dg.AssetKey]:
    """Fires once per change of what the report is made of, when nothing of it is being made; missing cells do not matter.

    Unlike `eager()` it goes by data version: a cell that was run again and gave the same makes no new report. It counts from the
    last time that it asked, not from the last report, which may have been read from the store before a cell ended. So a
    report that `taskdiv run` has made meanwhile is asked for once more, and found done; as is any at the daemon's first look.
    """
    condition = dg.AutomationCondition
    used = used_assets(experiment)
    names: list[str] = [name for name in ("base_scores", "benchmark_scores") if name in used] or ["raw_pool"]
    scores = dg.AssetSelection.assets(*(dg.AssetKey([experiment.name, name]) for name in names))
    has_changed = condition.any_deps_match(condition.data_version_changed())
    has_scores = condition.any_deps_match(~condition.missing()).allow(scores)
    was_asked = condition.newly_requested()  # true at the look after the one that asked
    before_it = (has_changed | condition.initial_evaluation()).since(was_asked)
    between = (has_changed & was_asked).since(was_asked & ~has_changed)  # the two looks: `since` alone would forget it
    return (
        (before_it | between) & has_scores & ~condition.any_deps_in_progress() & ~condition.in_progress()
    ).with_label("scores changed, and nothing is being scored")


def build(experiment: Experiment, text: str) -> dg.Definitions:
    """Assets, jobs and sensors of one experiment.

    Args:
        experiment: what to build.
        text: its file, kept beside the results.
    """
    strategies = dg.StaticPartitionsDefinition(ranked_strategies(experiment))
    partitions: dict[str, dg.PartitionsDefinition | None] = {
        "none": None,
        "strategy": strategies,
        "cell": dg.MultiPartitionsDefinition({"budget": budget_partitions(experiment.name), "strategy": strategies}),
    }
    used = used_assets(experiment)
    assets = [
        build_asset(experiment, text, stage, partitions[stage.partitions], used)
        for stage in STAGES
        if stage.name in used
    ]
    report_key = dg.AssetKey([experiment.name, "strategy_report"])
    return dg.Definitions(
        assets=assets,
        jobs=list(build_jobs(experiment)),
        sensors=[
            build_budget_sensor(experiment),
            dg.AutomationConditionSensorDefinition(
                f"{experiment.name}_report_sensor",
                target=dg.AssetSelection.assets(report_key),
                description="Makes the report anew when scores have changed and nothing is being scored.",
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=REPORT_SENSOR_S,
                run_tags=run_tags(experiment),
            ),
        ],
    )


def build_asset(
    experiment: Experiment,
    text: str,
    stage: Stage,
    partitions: dg.PartitionsDefinition | None,
    used: Collection[str],
) -> dg.AssetsDefinition:
    """One stage as a software-defined asset of one experiment, which depends on those of its inputs that are `used`."""
    key = dg.AssetKey([experiment.name, stage.name])
    contract = data_contracts.load(stage.name)

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([experiment.name, name]) for name in stage.deps if name in used],
        partitions_def=partitions,
        group_name=experiment.name,
        description=stage.description,
        kinds=set(stage.kinds),
        code_version=str(CODE_VERSIONS[stage.name]),
        pool=ACCELERATOR_POOL if stage.needs_model else None,
        op_tags=op_tags(stage.name, experiment),
        retry_policy=engines.retry_policy(),
        metadata={"dagster/column_schema": column_schema(contract)},
        owners=experiment.owners,
        tags={"experiment": experiment.name},
        automation_condition=when_scores_change(experiment) if stage.name == "strategy_report" else None,
        freshness_policy=freshness(experiment, stage),
        check_specs=[
            dg.AssetCheckSpec(
                rule.name, asset=key, description=rule.description, blocking=True, partitions_def=partitions
            )
            for rule in contract.rules
        ],
    )
    def materialise(context: dg.AssetExecutionContext) -> Events:
        yield from produce(context, experiment, stage, text)

    return materialise


def freshness(experiment: Experiment, stage: Stage) -> dg.FreshnessPolicy | None:
    """How long ago the pool's source, or the report, may have been looked at; for experiments that ask for it."""
    days = experiment.fresh_days
    if days is None or stage.name not in LOOKED_AT:
        return None
    window = timedelta(days=days)
    return dg.FreshnessPolicy.time_window(fail_window=window, warn_window=window * 3 / 4)


def column_schema(contract: data_contracts.Contract) -> dg.TableSchema:
    """A contract's columns for the UI."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.physical_type,
                description=column.description + (f" [{column.unit}]" if column.unit not in ("", "1", None) else ""),
                constraints=dg.TableColumnConstraints(nullable=not column.is_required, unique=False),
            )
            for column in contract.columns
        ]
    )


def build_jobs(experiment: Experiment) -> Iterator[UnresolvedAssetJobDefinition]:
    """A Dagster job holds assets of one partitions definition: pool, rankings, cells, report."""
    for suffix, names in jobs(experiment).items():
        yield dg.define_asset_job(
            f"{experiment.name}_{suffix}",
            selection=dg.AssetSelection.assets(*(dg.AssetKey([experiment.name, name]) for name in names)),
            description=JOB_DESCRIPTIONS[suffix],
            tags={"experiment": experiment.name},
            run_tags=run_tags(experiment),
        )


def jobs(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Assets of each job of an experiment, by the job's suffix."""
    used = used_assets(experiment)

    def having(partitions: str) -> tuple[str, ...]:
        return tuple(stage.name for stage in STAGES if stage.partitions == partitions and stage.name in used)

    report_names = ("strategy_report",)
    pool_names = tuple(name for name in having("none") if name not in report_names)
    return {"pool": pool_names, "rankings": having("strategy"), "cells": having("cell"), "report": report_names}


JOB_DESCRIPTIONS = {
    "pool": "Read and label the pool, resolve the base model, score the pool with it, and score the base itself.",
    "rankings": "Order the pool by each strategy.",
    "cells": "Per budget and strategy: choose prompts, train adapters on them, score them.",
    "report": "Compare the strategies over whatever cells there are.",
}


def build_budget_sensor(experiment: Experiment) -> dg.SensorDefinition:
    """Registers the budgets of the experiment file and of the store, and the full pool once it is known."""
    partitions = budget_partitions(experiment.name)

    @dg.sensor(
        name=f"{experiment.name}_budgets",
        description="Registers the experiment's budgets, those added by `taskdiv budget add`, and the full pool.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=BUDGET_SENSOR_S,
    )
    def budgets(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        keys = missing_budgets(experiment, context.instance)
        if not keys:
            return dg.SkipReason("every budget is registered")
        return dg.SensorResult(dynamic_partitions_requests=[partitions.build_add_request(keys)])

    return budgets


def missing_budgets(experiment: Experiment, instance: dg.DagsterInstance) -> list[str]:
    """Budget keys that should be there and are not yet known to Dagster."""
    store = Store(experiment.name)
    known = set(instance.get_dynamic_partitions(f"{experiment.name}_budget"))
    pool_size = Lineage(experiment, store).pool_size
    wanted = {cell.budget_n for cell in cells.expected(experiment, store, pool_size)}
    return [str(budget_n) for budget_n in sorted(wanted) if str(budget_n) not in known]
