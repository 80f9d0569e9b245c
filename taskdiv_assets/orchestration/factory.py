"""One factory that turns an experiment into its group of assets, jobs and sensors.

What the assets do is in the stages; how a result is looked up and published is in `produce`. Here stands only what Dagster
has to know before anything runs: keys, partitions, checks, pools, jobs, and what fires by itself.
"""

from collections.abc import Collection, Iterator
from datetime import timedelta

import dagster as dg

import data_contracts
from taskdiv_assets.assets import (
    adapter,
    annotations,
    confidence_accuracy,
    confidence_comparison,
    ranking,
    tuning_choice,
)
from taskdiv_assets.assets import benchmark_scores as scores
from taskdiv_assets.assets import confidence_table as confidence
from taskdiv_assets.assets import prompt_embeddings as embeddings
from taskdiv_assets.assets import raw_pool as pool
from taskdiv_assets.assets import strategy_report as report
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import FULL_POOL_STRATEGY
from taskdiv_assets.graph.needs import op_tags
from taskdiv_assets.graph.stage import Stage
from taskdiv_assets.graph.units import BY_CELL, ranked_strategies, run_tags, used_assets
from taskdiv_assets.orchestration import automation, budget_list, engines, report_links
from taskdiv_assets.orchestration.asset_paths import FULL_POOL, place
from taskdiv_assets.orchestration.dagster_private import UnresolvedAssetJobDefinition
from taskdiv_assets.orchestration.produce import Events, produce
from taskdiv_assets.storage.identity import CODE_VERSIONS

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


def build(experiment: Experiment, text: str) -> dg.Definitions:
    """Assets, jobs and sensors of one experiment.

    Args:
        experiment: what to build.
        text: its file, kept beside the results.
    """
    strategies = dg.StaticPartitionsDefinition(ranked_strategies(experiment))
    cells = dg.MultiPartitionsDefinition({"budget": budget_list.partitions(experiment.name), "strategy": strategies})
    partitions: dict[str, dg.PartitionsDefinition | None] = {"none": None, "strategy": strategies, "cell": cells}
    used = used_assets(experiment)
    stages = [stage for stage in STAGES if stage.name in used]
    assets = [build_asset(experiment, text, stage, partitions[stage.partitions], used) for stage in stages]
    if experiment.full_pool_seeds:
        of_cells = [stage for stage in stages if stage.partitions == "cell"]
        assets += [build_asset(experiment, text, stage, None, used, is_full_pool=True) for stage in of_cells]
    return dg.Definitions(
        assets=assets,
        jobs=list(build_jobs(experiment)),
        sensors=[build_budget_sensor(experiment), build_report_sensor(experiment)],
    )


def build_asset(
    experiment: Experiment,
    text: str,
    stage: Stage,
    partitions: dg.PartitionsDefinition | None,
    used: Collection[str],
    *,
    is_full_pool: bool = False,
) -> dg.AssetsDefinition:
    """One stage as a software-defined asset of one experiment, which depends on those of its inputs that are `used`.

    With `is_full_pool` it is that stage's result for the full pool's cell, an asset of its own.
    """
    key = dg.AssetKey(place(experiment.name, stage.name, is_full_pool=is_full_pool).path)
    contract = data_contracts.load(stage.name)

    @dg.asset(
        key=key,
        deps=list(dependencies(experiment, stage, used, is_full_pool=is_full_pool)),
        partitions_def=partitions,
        group_name=experiment.name,
        description=description(experiment, stage, is_full_pool=is_full_pool),
        kinds=set(stage.kinds),
        code_version=str(CODE_VERSIONS[stage.name]),
        pool=ACCELERATOR_POOL if stage.needs_model else None,
        op_tags=op_tags(stage.name, experiment),
        retry_policy=engines.retry_policy(),
        metadata={} if stage.name == "strategy_report" else {"dagster/column_schema": column_schema(contract)},
        owners=experiment.owners,
        tags={"experiment": experiment.name},
        automation_condition=automation.when_due(experiment) if stage.name == "strategy_report" else None,
        freshness_policy=freshness(experiment, stage),
        check_specs=[
            dg.AssetCheckSpec(
                rule.name, asset=key, description=rule.description, blocking=True, partitions_def=partitions
            )
            for rule in contract.rules
        ],
    )
    def materialise(context: dg.AssetExecutionContext) -> Events:
        yield from produce(context, experiment, stage, text, is_full_pool=is_full_pool)

    return materialise


def description(experiment: Experiment, stage: Stage, *, is_full_pool: bool) -> str:
    """Return what an asset's page begins with, as Markdown; the report's page begins with a link to the report.

    The report's columns are left out there: below twenty of them nobody would find its answer.
    """
    if stage.name == "strategy_report":
        link = f"**[Open the report]({report_links.address(experiment.name)})** (served by `taskdiv ui` and `make ui`)"
        return f"{link}\n\n{stage.description}"
    return f"Of the full pool, under `{FULL_POOL_STRATEGY}`. {stage.description}" if is_full_pool else stage.description


def dependencies(
    experiment: Experiment, stage: Stage, used: Collection[str], *, is_full_pool: bool
) -> Iterator[dg.AssetDep]:
    """Return what an asset reads, as far as the experiment uses it."""
    for name in stage.deps:
        if name not in used:
            continue
        key = dg.AssetKey(place(experiment.name, name, is_full_pool=is_full_pool).path)
        if is_full_pool and name == "ranking":
            yield dg.AssetDep(key, partition_mapping=dg.SpecificPartitionsPartitionMapping([FULL_POOL_STRATEGY]))
            continue
        yield dg.AssetDep(key)
        if name in BY_CELL and stage.partitions == "none" and experiment.full_pool_seeds:  # the report reads both
            yield dg.AssetDep(dg.AssetKey(place(experiment.name, name, is_full_pool=True).path))


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
    """A Dagster job holds assets of one partitions definition: pool, rankings, cells, the full pool, report."""
    for suffix, names in jobs(experiment).items():
        is_full_pool = suffix == FULL_POOL
        paths = [place(experiment.name, name, is_full_pool=is_full_pool).path for name in names]
        yield dg.define_asset_job(
            f"{experiment.name}_{suffix}",
            selection=dg.AssetSelection.assets(*map(dg.AssetKey, paths)),
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
    of_cells = having("cell")
    full_pool = {FULL_POOL: of_cells} if experiment.full_pool_seeds else {}
    return {"pool": pool_names, "rankings": having("strategy"), "cells": of_cells, **full_pool, "report": report_names}


JOB_DESCRIPTIONS = {
    "pool": "Read and label the pool, resolve the base model, score the pool with it, and score the base itself.",
    "rankings": "Order the pool by each strategy.",
    "cells": "Per budget and strategy: choose prompts, train adapters on them, score them.",
    FULL_POOL: "Train on every prompt of the pool, once for each of `full_pool_seeds`: what labelling everything would give.",
    "report": "Compare the strategies over whatever cells there are.",
}


def build_budget_sensor(experiment: Experiment) -> dg.SensorDefinition:
    """Keeps the list of budgets that the partition dialog offers as the experiment file and the store have it."""

    @dg.sensor(
        name=f"{experiment.name}_budgets",
        description="Offers the experiment's budgets and those added by `taskdiv budget add`, the smallest first.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=BUDGET_SENSOR_S,
    )
    def budgets(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        added = budget_list.bring_up_to_date(experiment, context.instance)
        return dg.SkipReason(f"added: {', '.join(map(str, added))}" if added else "every budget is in the list")

    return budgets


def build_report_sensor(experiment: Experiment) -> dg.SensorDefinition:
    """Makes the report when it is due. It reads the store, so it is evaluated here and not in the daemon."""
    return dg.AutomationConditionSensorDefinition(
        f"{experiment.name}_report_sensor",
        target=dg.AssetSelection.assets(dg.AssetKey([experiment.name, "strategy_report"])),
        description="Makes the report when it is out of date and nothing that it reads is being made.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=REPORT_SENSOR_S,
        run_tags=run_tags(experiment),
        use_user_code_server=True,
    )
