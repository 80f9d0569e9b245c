"""Functions that turn an experiment into a group of Dagster assets, jobs and sensors.

This module declares keys, partitions, checks, pools, jobs and sensors. `produce` computes and publishes a result.
"""

from collections.abc import Collection, Iterator
from datetime import timedelta

import dagster as dg

import data_contracts
from data_contracts import plain_yaml
from data_contracts.cell_keys import FULL_POOL_STRATEGY
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.variants import variants_of
from taskdiv_assets.graph.asset import Asset
from taskdiv_assets.graph.needs import op_tags
from taskdiv_assets.graph.registry import CELL_SCORES
from taskdiv_assets.graph.units import ranked_strategies, run_tags
from taskdiv_assets.orchestration import automation, budget_list, engines, report_links
from taskdiv_assets.orchestration.asset_paths import FULL_POOL, place
from taskdiv_assets.orchestration.dagster_private import UnresolvedAssetJobDefinition
from taskdiv_assets.orchestration.instance import ACCELERATOR_POOL
from taskdiv_assets.orchestration.produce import Events, produce

BUDGET_SENSOR_S = 30
REPORT_SENSOR_S = 30
LOOKED_AT = frozenset({"raw_pool", "strategy_report"})  # the assets that have a freshness policy


def build(experiment: Experiment, text: str) -> dg.Definitions:
    """Return the assets, jobs and sensors of one experiment and its variants.

    `text` is the experiment file, which is stored with the results.
    """
    every = [build_alone(experiment, text)]
    every += [build_alone(one, text_of_variant(one)) for one in variants_of(experiment)]
    return dg.Definitions.merge(*every)


def text_of_variant(experiment: Experiment) -> str:
    """Return the settings of a variant as text, which is stored with its results."""
    of = experiment.command_name
    first = f"# A variant of {of} (its `robustness`), written by `taskdiv run {of}`. It is a record; edit the file of {of}.\n"
    return first + plain_yaml.document(experiment.model_dump(mode="json", by_alias=True))


def build_alone(experiment: Experiment, text: str) -> dg.Definitions:
    strategies = dg.StaticPartitionsDefinition(ranked_strategies(experiment))
    budgets = dg.DynamicPartitionsDefinition(name=budget_list.partitions_name(experiment.name))
    cells = dg.MultiPartitionsDefinition({"budget": budgets, "strategy": strategies})
    partitions: dict[str, dg.PartitionsDefinition | None] = {"none": None, "strategy": strategies, "cell": cells}
    used = REGISTRY.used(experiment)
    chosen = [asset for asset in REGISTRY if asset.name in used]
    assets = [build_asset(experiment, text, asset, partitions[asset.partitioned_by], used) for asset in chosen]
    if experiment.full_pool_seeds:
        of_cells = [asset for asset in chosen if asset.partitioned_by == "cell"]
        assets += [build_asset(experiment, text, asset, None, used, is_full_pool=True) for asset in of_cells]
    return dg.Definitions(
        assets=assets,
        jobs=list(build_jobs(experiment)),
        sensors=[
            build_budget_sensor(experiment),
            *([build_report_sensor(experiment)] if experiment.variant is None else []),
        ],
    )


def build_asset(
    experiment: Experiment,
    text: str,
    asset: Asset,
    partitions: dg.PartitionsDefinition | None,
    used: Collection[str],
    *,
    is_full_pool: bool = False,
) -> dg.AssetsDefinition:
    """Return the Dagster asset for one asset of an experiment; with `is_full_pool`, only for the full pool's cell.

    The dependencies of the Dagster asset are limited to the assets in `used`.
    """
    key = dg.AssetKey(place(experiment.name, asset.name, is_full_pool=is_full_pool).path)
    contract = data_contracts.load(asset.name)

    @dg.asset(
        key=key,
        deps=list(dependencies(experiment, asset, used, is_full_pool=is_full_pool)),
        partitions_def=partitions,
        group_name=experiment.name,
        description=description(experiment, asset, is_full_pool=is_full_pool),
        kinds=set(asset.kinds),
        code_version=str(asset.code_version),
        pool=ACCELERATOR_POOL if asset.holds_model else None,
        op_tags=op_tags(asset, experiment),
        retry_policy=engines.retry_policy(),
        metadata={} if asset.name == "strategy_report" else {"dagster/column_schema": column_schema(contract)},
        owners=experiment.owners,
        tags={"experiment": experiment.name},
        automation_condition=automation.when_due(experiment) if asset.name == "strategy_report" else None,
        freshness_policy=freshness(experiment, asset),
        check_specs=[
            dg.AssetCheckSpec(
                rule.name, asset=key, description=rule.description, blocking=True, partitions_def=partitions
            )
            for rule in contract.rules
        ],
    )
    def materialise(context: dg.AssetExecutionContext) -> Events:
        yield from produce(context, experiment, asset, text, is_full_pool=is_full_pool)

    return materialise


def description(experiment: Experiment, asset: Asset, *, is_full_pool: bool) -> str:
    if experiment.variant is not None:
        of = f"Variant `{experiment.variant.name}` of {experiment.variant.parent.name} (`robustness` in its file)."
        return f"{of} {asset.description}"
    if asset.name == "strategy_report":
        link = f"**[Open the report]({report_links.address(experiment.name)})** (served by `taskdiv ui` and `make ui`)"
        return f"{link}\n\n{asset.description}"
    return f"Of the full pool, under `{FULL_POOL_STRATEGY}`. {asset.description}" if is_full_pool else asset.description


def dependencies(
    experiment: Experiment, asset: Asset, used: Collection[str], *, is_full_pool: bool
) -> Iterator[dg.AssetDep]:
    if asset.name == "strategy_report":
        for one in variants_of(experiment):
            yield dg.AssetDep(dg.AssetKey(place(one.name, CELL_SCORES).path))
    for name in REGISTRY.inputs_in(experiment, asset.name):
        if name not in used:
            if experiment.variant is not None and name in REGISTRY.used(experiment.variant.parent):
                yield dg.AssetDep(dg.AssetKey(place(experiment.variant.parent.name, name).path))
            continue
        key = dg.AssetKey(place(experiment.name, name, is_full_pool=is_full_pool).path)
        if is_full_pool and name == "ranking":
            yield dg.AssetDep(key, partition_mapping=dg.SpecificPartitionsPartitionMapping([FULL_POOL_STRATEGY]))
            continue
        yield dg.AssetDep(key)
        if name in REGISTRY.by_cell and asset.partitioned_by == "none" and experiment.full_pool_seeds:  # the report
            yield dg.AssetDep(dg.AssetKey(place(experiment.name, name, is_full_pool=True).path))


def freshness(experiment: Experiment, asset: Asset) -> dg.FreshnessPolicy | None:
    """Return a policy that fails for an asset older than `fresh_days` days, and warns at three quarters of this age.

    Return None if `fresh_days` is None, or if the asset is not in `LOOKED_AT`.
    """
    days = experiment.fresh_days
    if days is None or asset.name not in LOOKED_AT:
        return None
    window = timedelta(days=days)
    return dg.FreshnessPolicy.time_window(fail_window=window, warn_window=window * 3 / 4)


def column_schema(contract: data_contracts.Contract) -> dg.TableSchema:
    columns = [
        dg.TableColumn(
            name=column.name,
            type=column.physical_type,
            description=column.description + (f" [{column.unit}]" if column.unit not in ("", "1", None) else ""),
            constraints=dg.TableColumnConstraints(nullable=not column.is_required, unique=False),
        )
        for column in contract.columns
    ]
    return dg.TableSchema(columns=columns)


def build_jobs(experiment: Experiment) -> Iterator[UnresolvedAssetJobDefinition]:
    """Yield the jobs of an experiment: pool, rankings, cells, full pool (if `full_pool_seeds` is set), report.

    There are several jobs because all assets of a Dagster job must have the same partitions definition.
    """
    for suffix, names in jobs(experiment).items():
        is_full_pool = suffix == FULL_POOL
        paths = [place(experiment.name, name, is_full_pool=is_full_pool).path for name in names]
        if not paths:  # a variant has no report, and often no pool
            continue
        yield dg.define_asset_job(
            f"{experiment.name}_{suffix}",
            selection=dg.AssetSelection.assets(*map(dg.AssetKey, paths)),
            description=JOB_DESCRIPTIONS[suffix],
            tags={"experiment": experiment.name},
            run_tags=run_tags(experiment),
        )


def jobs(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Return the names of the assets of each job. The keys are the suffixes of the jobs' names."""
    names = {"pool": REGISTRY.first, "rankings": REGISTRY.by_strategy, "cells": REGISTRY.by_cell}
    if experiment.full_pool_seeds:
        names[FULL_POOL] = REGISTRY.by_cell
    used = REGISTRY.used(experiment)
    return {
        job: tuple(one for one in of_job if one in used) for job, of_job in (*names.items(), ("report", REGISTRY.last))
    }


JOB_DESCRIPTIONS = {
    "pool": "Read and label the pool, resolve the base model, score the pool with it, and score the base itself.",
    "rankings": "Order the pool by each strategy.",
    "cells": "Per budget and strategy: choose prompts, train adapters on them, score them.",
    FULL_POOL: "Train on every prompt of the pool, once for each of `full_pool_seeds`: the scores if everything is labelled.",
    "report": "Compare the strategies over the cells that are stored.",
}


def build_budget_sensor(experiment: Experiment) -> dg.SensorDefinition:
    """Return the sensor that updates the budgets in the partition dialog from the experiment file and the store."""

    @dg.sensor(
        name=f"{experiment.name}_budgets",
        description="Lists the experiment's budgets and those added by `taskdiv budget add`, the smallest first.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=BUDGET_SENSOR_S,
    )
    def budgets(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        added = budget_list.bring_up_to_date(experiment, context.instance)
        return dg.SkipReason(f"added: {', '.join(map(str, added))}" if added else "every budget is in the list")

    return budgets


def build_report_sensor(experiment: Experiment) -> dg.SensorDefinition:
    """Return the sensor that requests the report when it is due. The code server evaluates the condition."""
    return dg.AutomationConditionSensorDefinition(
        f"{experiment.name}_report_sensor",
        target=dg.AssetSelection.assets(dg.AssetKey([experiment.name, "strategy_report"])),
        description="Makes the report when it is out of date and none of its inputs is being made.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=REPORT_SENSOR_S,
        run_tags=run_tags(experiment),
        use_user_code_server=True,
    )
