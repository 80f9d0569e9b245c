"""Look up, work, validate, publish: the one way from a stage to a stored table and its Dagster events.

The order is what protects a user's data. The identity is computed before any work; what is found whole is published as it
is; what is new is validated before it replaces anything. A broken ERROR rule leaves the old table untouched, leaves word in
`<table>.rejected.json`, records every check and fails the step without a retry.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa

import data_contracts
from taskdiv_assets import cells, environment, locks
from taskdiv_assets.assets.cards import MODEL_CARD, data_card_path
from taskdiv_assets.assets.stage import Stage, Work
from taskdiv_assets.cells import Cell
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.identity import CODE_VERSIONS
from taskdiv_assets.lineage import Lineage
from taskdiv_assets.models import StaleInputError
from taskdiv_assets.store import Footer, Store
from taskdiv_assets.units import Unit

Events = Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]
PREVIEW_ROWS_N = 8


def produce(context: dg.AssetExecutionContext, experiment: Experiment, stage: Stage, text: str) -> Events:
    """Materialise one unit of the graph.

    Args:
        context: of the running step.
        experiment: what it belongs to.
        stage: what to do.
        text: the experiment file as it was used, kept in the store for the report.

    Raises:
        dagster.Failure: bad input, stale inputs, or a broken contract: one sentence, and no retry.
    """
    store = Store(experiment.name)
    try:
        unit = Unit(stage.name, context.partition_key if context.has_partition_key else None)
        cell = Cell.parse(unit.key) if unit.key is not None and "|" in unit.key else None
        expected = Lineage(experiment, store).expect(unit)
        keep_text(store, text)
        with locks.hold(
            store, f"{expected.identity}-table", on_wait=lambda owner: context.log.info(f"waiting for {owner}")
        ):
            lineage = Lineage(experiment, store)  # another process may have made it, or its inputs, while we waited
            if lineage.expect(unit).identity != expected.identity:
                raise StaleInputError(f"the inputs of {unit} changed while it waited for another process; run it again")
            work = Work(experiment, store, lineage, unit, expected, context.log.info)
            if lineage.is_fresh(unit) and _has_all_rules(lineage.footer(unit), stage.name):
                yield from _publish_found(context, work, stage)
            else:
                yield from _publish_new(context, work, stage)
            if cell is not None:  # a budget that was added in the UI is now known to the store too
                cells.register(store, cell.budget_n, is_full=lineage.is_full_pool(cell))
    except (ValueError, FileNotFoundError) as error:  # input of the user's: a sentence, not a stack of frames
        context.log.debug("details of the failure", exc_info=True)
        raise dg.Failure(description=str(error), allow_retries=False) from error


def keep_text(store: Store, text: str) -> None:
    """Keep the experiment file beside its results, as it was used."""
    if store.get("experiment.yaml") != text.encode():
        store.put(text.encode(), "experiment.yaml")


def _publish_new(context: dg.AssetExecutionContext, work: Work, stage: Stage) -> Events:
    started = time.time()
    product = stage.make(work)
    contract = data_contracts.load(stage.name)
    table = in_contract_order(product.table, contract.arrow_schema)
    result = data_contracts.validate(contract, table, stage.parameters(work))
    rules = tuple(rule.as_dict() for rule in result.rules)
    if not result.is_valid:
        failed = [rule for rule in rules if not rule["passed"]]
        note = {
            "asset": work.unit.asset,
            "key": work.unit.key,
            "identity": work.expected.identity,
            "run_id": context.run_id,
            "rejected_at": _iso(time.time()),
            "rules": failed,
        }
        path = work.store.write_rejected(work.unit.asset, work.unit.key, note)
        yield from check_results(rules)
        broken = "; ".join(f"{rule['rule']} ({rule['observed']})" for rule in failed if rule["severity"] == "error")
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
        code_version=CODE_VERSIONS[stage.name],
        run_id=context.run_id,
        started_at=_iso(started),
        finished_at=_iso(finished),
        wall_s=round(finished - started, 3),
        rules=rules,
        parts=product.parts,
        environment=environment.describe(),
        notes=product.notes,
    )
    for path, content in product.files.items():
        work.store.put(content, *path.split("/"))
    work.store.write_table(table, footer)
    stage.afterwards(work)
    yield from check_results(rules)
    yield _materialised(work.store, stage, work.unit, table, footer)


def _publish_found(context: dg.AssetExecutionContext, work: Work, stage: Stage) -> Events:
    store, unit = work.store, work.unit
    stored = store.read_table(*unit)
    store.drop_rejected(*unit)
    stage.afterwards(work)
    context.log.info(
        f"{unit} is up to date ({stored.footer.identity}, made {stored.footer.finished_at}): nothing to do"
    )
    yield from check_results(stored.footer.rules)
    yield _materialised(store, stage, unit, stored.table, stored.footer)


def _has_all_rules(footer: Footer | None, asset: str) -> bool:
    declared = {rule.name for rule in data_contracts.load(asset).rules}
    return footer is not None and {str(rule["rule"]) for rule in footer.rules} == declared


def in_contract_order(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns in the contract's order, cast where nothing is lost; the contract judges what remains different.

    Casting is safe (`int64` to `int32` with overflow, or a null in a required column, is left for the rule to name).
    """
    if set(table.column_names) != set(schema.names):
        return table
    table = table.select(schema.names)
    try:
        return table.cast(schema)
    except (ValueError, pa.ArrowNotImplementedError):
        # A value that does not fit, a null where none may be (both ValueError), or no such cast: nothing is swallowed, since
        # the table goes on as it is to the contract, whose rule `schema` is an ERROR and says which column differs how.
        return table


def check_results(rules: Sequence[Mapping[str, Any]]) -> Iterator[dg.AssetCheckResult]:
    """A contract's rules as Dagster asset checks."""
    for rule in rules:
        is_error = rule["severity"] == "error"
        advice = {} if rule["passed"] else {"what to do": ERROR_ADVICE if is_error else WARN_ADVICE}
        yield dg.AssetCheckResult(
            passed=bool(rule["passed"]),
            check_name=str(rule["rule"]),
            severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
            description=str(rule["description"]),
            metadata={
                "observed": str(rule["observed"]),
                "failing rows": int(rule["unexpected_n"]),
                "examples": dg.MetadataValue.json(list(rule["examples"])),
                **advice,
            },
        )


ERROR_ADVICE = (
    "The new table was not stored and the old one is untouched. Repair the input that the examples show, and run again."
)
WARN_ADVICE = "The table was published. Look at the examples before you rely on it."


def _materialised(store: Store, stage: Stage, unit: Unit, table: pa.Table, footer: Footer) -> dg.MaterializeResult[Any]:
    metadata: dict[str, Any] = {
        "dagster/row_count": table.num_rows,
        "path": dg.MetadataValue.path(store.locate(*store.table_parts(*unit))),
        "preview": dg.MetadataValue.md(_markdown(table)),
        "seconds": footer.wall_s,
    }
    for name, value in footer.notes.items():
        if isinstance(value, str | int | float):
            metadata[name] = value
    if stage.name == "strategy_report":
        metadata["report"] = dg.MetadataValue.path(store.locate("report", "index.html"))
    if stage.name == "allocation":
        metadata["data card"] = dg.MetadataValue.path(store.locate(*data_card_path(store, str(unit.key)).split("/")))
    if stage.name == "adapter":
        cards = [store.locate("folders", folder, MODEL_CARD) for folder in table["folder"].unique().to_pylist()]
        metadata["model cards"] = dg.MetadataValue.json(cards)
    if stage.summary is not None:
        metadata["summary"] = dg.MetadataValue.md(stage.summary(footer.notes))
    picture = stage.picture(table, footer.notes) if stage.picture is not None and table.num_rows else b""
    if picture:
        encoded = base64.b64encode(picture).decode()
        metadata["picture"] = dg.MetadataValue.md(f"![{stage.name}](data:image/png;base64,{encoded})")
    return dg.MaterializeResult(data_version=dg.DataVersion(footer.identity), metadata=metadata)


def _markdown(table: pa.Table) -> str:
    """The first rows as a Markdown table, cells cut and escaped."""
    names = table.column_names
    rows = table.slice(0, PREVIEW_ROWS_N).to_pylist()
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())[:80].replace("\\", "\\\\")
    for mark in "|<>[]`*_$":
        text = text.replace(mark, f"\\{mark}")
    return text


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
