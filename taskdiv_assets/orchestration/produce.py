"""Materialisation of one result: look up, compute, validate, store and report its table. All assets use this module.

If the stored result is fresh and has all rules and notes of this version, nothing is computed. A new table is validated before
it replaces the stored table. If it violates a rule of severity `error`, the stored table is kept, `<table>.rejected.json` is
written, and the step fails without a retry.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa

import data_contracts
from data_contracts.footer import Footer, Rejected, RuleResult
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.recorded_rounds import with_stored_rounds
from taskdiv_assets.graph import cells, environment
from taskdiv_assets.graph.asset import Asset
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import StaleInputError, Unit, run_tags
from taskdiv_assets.graph.work import Work
from taskdiv_assets.orchestration import metadata, troubles
from taskdiv_assets.storage import locks
from taskdiv_assets.storage.store import Store
from taskdiv_assets.storage.transient import is_transient

Events = Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]
RETRIES_N = 3  # retries after transient failures: after 5, 15 and 45 s
FIRST_WAIT_S = 5.0
SAID_ROWS_N = 20_000  # the validation of a table with at least this number of rows takes seconds, so it is logged


def produce(
    context: dg.AssetExecutionContext, experiment: Experiment, asset: Asset, text: str, *, is_full_pool: bool = False
) -> Events:
    """Materialise one unit (an asset with its partition), and yield its check results and its materialisation.

    `text` is the content of the experiment file, which is stored for the report. `is_full_pool` selects the full pool's cell.

    Raises:
        dagster.Failure: an invalid or stale input, a violated contract, or any other error. The step is not retried.
        dagster.RetryRequested: a transient failure, such as an object store that did not answer; at most `RETRIES_N` times.
    """
    try:
        store = Store(experiment.name)
        lineage = REGISTRY.look(experiment, store)
        unit = unit_of(context, asset, lineage, is_full_pool=is_full_pool)
        tag_run(context, run_tags(experiment, unit.key))
        cell = Cell.parse(unit.key) if unit.key is not None and "|" in unit.key else None
        if cell is not None and not is_full_pool:
            cells.refuse_unexpected(experiment, store, cell, lineage.pool_size)
        keep_text(store, text)
        waiting = prepared(Work(experiment, store, lineage, unit, lineage.expect(unit), context.log.info), asset)
        expected = waiting.expected
        with locks.hold(store, f"{expected.identity}-table", on_wait=waiting.wait):
            lineage = lineage.again()  # during the wait, another process may have stored this result or its inputs
            if lineage.expect(unit).identity != expected.identity:
                raise StaleInputError(f"the inputs of {unit} changed while it waited for another process; run it again")
            work = Work(experiment, store, lineage, unit, expected, context.log.info)
            has_all = _has_all_rules(lineage.footer(unit), asset.name) and not lineage.lacks_notes(unit)
            if has_all and lineage.is_fresh(unit):
                store.adopt(*unit)  # the folder of a variant then holds all tables that the variant was made of
                yield from _publish_found(context, work, asset)
            else:
                yield from _publish_new(context, work, asset)
            if cell is not None and cell.budget_n not in experiment.budgets:  # a budget that was added in the UI
                cells.register(store, cell.budget_n, is_full=lineage.is_full_pool(cell))
    except Exception as error:
        retry_if_it_may_pass(context, error)
        if isinstance(error, dg.Failure):
            raise
        context.log.debug("details of the failure", exc_info=True)
        # No retry, because the step would fail in the same way. Engines restart only killed steps (engines.retry_policy).
        raise dg.Failure(description=sentence_of(error), allow_retries=False) from error


def sentence_of(error: Exception) -> str:
    """Return the message of `troubles` for an error or, without one, the error's own message.

    The class of the error is put before its own message, except for ValueError and OSError.
    """
    is_sentence = isinstance(error, ValueError | OSError)
    return troubles.sentence(error) or (str(error) if is_sentence else f"{type(error).__name__}: {error}")


def prepared(work: Work, asset: Asset) -> Work:
    """Call the asset's `prepare`, unless the unit is fresh. If `prepare` stored files, return a new `Work`, else `work`."""
    if work.lineage.is_fresh(work.unit) or asset.prepare is None or not asset.prepare(work):
        return work
    lineage = work.lineage.again()
    return replace(work, lineage=lineage, expected=lineage.expect(work.unit))


def unit_of(context: dg.AssetExecutionContext, asset: Asset, lineage: Lineage, *, is_full_pool: bool) -> Unit:
    if is_full_pool:
        return Unit(asset.name, cells.full_pool(lineage.experiment, lineage.pool_size).key)
    return Unit(asset.name, context.partition_key if context.has_partition_key else None)


def tag_run(context: dg.AssetExecutionContext, tags: Mapping[str, str]) -> None:
    """Add `tags` to the run of a step, because users filter runs by tags, and runs of a backfill do not get the job's tags."""
    missing = {name: value for name, value in tags.items() if context.run.tags.get(name) != value}
    if missing:
        context.instance.add_run_tags(context.run_id, missing)


def retry_if_it_may_pass(context: dg.AssetExecutionContext, error: Exception) -> None:
    """Raise dagster.RetryRequested for a transient error, up to `RETRIES_N` times. Each wait is three times the previous wait."""
    if context.retry_number >= RETRIES_N or not is_transient(error):
        return
    wait_s = FIRST_WAIT_S * 3**context.retry_number
    context.log.warning(
        f"{type(error).__name__}: {error}. This may be temporary: trying again in {wait_s:.0f} s "
        f"({context.retry_number + 1} of {RETRIES_N})"
    )
    raise dg.RetryRequested(max_retries=RETRIES_N, seconds_to_wait=wait_s) from error


def keep_text(store: Store, text: str) -> None:
    """Store the text of the experiment file, with the rounds that were started after this process read the file."""
    stored = store.get("experiment.yaml")
    kept = text if stored is None else with_stored_rounds(text, stored.decode("utf-8", errors="replace"))
    if stored != kept.encode():
        store.put(kept.encode(), "experiment.yaml")


def _publish_new(context: dg.AssetExecutionContext, work: Work, asset: Asset) -> Events:
    started = time.time()
    product = asset.make(work)
    contract = data_contracts.load(asset.name)
    table = in_contract_order(product.table, contract.arrow_schema)
    if table.num_rows >= SAID_ROWS_N:  # validation takes 16 s at 100,000 prompts
        context.log.info(f"{work.unit}: checking {table.num_rows:,} rows against {len(contract.rules)} rules")
    result = data_contracts.validate(contract, table, {**work.parameters(), **product.parameters})
    if not result.is_valid:
        unit, identity = work.unit, work.expected.identity
        note = Rejected(*unit, identity, context.run_id, rejected_at=_iso(time.time()), rules=result.failed)
        path = work.store.write_rejected(note)
        yield from check_results(result.rules, REGISTRY.reads(asset.name))
        broken = "; ".join(f"{rule.rule} ({rule.observed})" for rule in result.failed if rule.severity == "error")
        raise dg.Failure(
            description=f"{work.unit} breaks its contract: {broken}. Nothing stored was changed; details in {path}",
            allow_retries=False,
        )
    finished = time.time()
    footer = Footer(
        asset=work.unit.asset,
        key=work.unit.key,
        identity=work.expected.identity,
        inputs=work.expected.inputs,
        code_version=asset.code_version,
        run_id=context.run_id,
        started_at=_iso(started),
        finished_at=_iso(finished),
        wall_s=round(finished - started, 3),
        rules=result.rules,
        parts=product.parts,
        environment=environment.describe(),
        notes=product.notes,
    )
    for path, content in product.files.items():
        work.store.put(content, *path.split("/"))
    work.store.write_table(table, footer)
    if asset.afterwards is not None and work.experiment.variant is None:
        asset.afterwards(work)
    yield from check_results(result.rules, REGISTRY.reads(asset.name))
    yield _materialised(work, asset, table, footer)


def _publish_found(context: dg.AssetExecutionContext, work: Work, asset: Asset) -> Events:
    store, unit = work.store, work.unit
    stored = store.read_table(*unit)
    store.drop_rejected(*unit)
    if (
        asset.afterwards is not None and work.experiment.variant is None
    ):  # a card describes the experiment, not a variant
        asset.afterwards(work)
    context.log.info(
        f"{unit} is up to date ({stored.footer.identity}, made {stored.footer.finished_at}): nothing to do"
    )
    yield from check_results(stored.footer.rules, REGISTRY.reads(asset.name))
    yield _materialised(work, asset, stored.table, stored.footer)


def _has_all_rules(footer: Footer | None, asset: str) -> bool:
    declared = {rule.name for rule in data_contracts.load(asset).rules}
    return footer is not None and {rule.rule for rule in footer.rules} == declared


def in_contract_order(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with its columns in the order and with the types of `schema`, which comes from the contract.

    If a cast fails or would lose values, no type is changed. If the column names differ, the table is returned unchanged. The
    contract's rule `schema` reports both cases.
    """
    if set(table.column_names) != set(schema.names):
        return table
    table = table.select(schema.names)
    try:
        return table.cast(schema)
    except (ValueError, pa.ArrowNotImplementedError):  # overflow, null in a required column, or unsupported cast
        return table


def check_results(rules: Sequence[RuleResult], inputs: Sequence[str]) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of each rule of a contract as a Dagster asset check. The check of a violated rule contains advice.

    `inputs` are the names of the assets from which the table was made.
    """
    for rule in rules:
        is_error = rule.severity == "error"
        found = {} if rule.passed else {"what to do": advice(inputs, is_error=is_error)}
        yield dg.AssetCheckResult(
            passed=rule.passed,
            check_name=rule.rule,
            severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
            description=". ".join([rule.description.rstrip("."), *found.values()]),
            metadata={
                "observed": rule.observed,
                "failing rows": rule.unexpected_n,
                "examples": dg.MetadataValue.json(list(rule.examples)),
                **found,
            },
        )


def advice(inputs: Sequence[str], *, is_error: bool) -> str:
    if not is_error:
        return "The table was published. Look at the examples before you rely on it."
    source = f"its inputs ({', '.join(inputs)})" if inputs else "the source that the experiment file names"
    return f"Nothing stored was changed. Look at the examples, repair {source}, and materialise it again."


def _materialised(work: Work, asset: Asset, table: pa.Table, footer: Footer) -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(footer.identity), metadata=metadata.describe(work, asset, table, footer)
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
