"""The check of every stored table against its data contract, for `taskdiv contracts check`.

Each table passed all rules of severity `error` before it was published. A second check finds later changes, such as edited files,
damaged weights and newer inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import pyarrow as pa

import data_contracts
from data_contracts import RuleResult
from data_contracts.footer import Footer
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.variants import variants_of
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage.store import DamagedError, Store

OTHER_CODE = "made by another version of the code"


class Checked(NamedTuple):
    """Result of the check of one stored table."""

    unit: Unit
    failed: tuple[RuleResult, ...]  # rules that the table breaks
    out_of_date: str = ""  # reason why `taskdiv run` would compute the table again; empty for a fresh table
    variant: str = ""  # name of the variant whose table it is; empty for a table of the experiment

    @property
    def name(self) -> str:
        return f"{self.variant}: {self.unit}" if self.variant else str(self.unit)


def check_stored(experiment: Experiment, store: Store) -> Iterator[Checked]:
    """Check every stored table that the experiment still uses, inputs first, and yield the results; then those of its variants.

    Rules with parameters compare a table with its current inputs and settings. They are skipped for a stale or blocked table. A
    table made by another version of the code is not checked, because its contract may have changed.
    """
    lineage = REGISTRY.look(experiment, store)
    for unit in REGISTRY.units(experiment, store, lineage.pool_size):
        if not store.owns(*unit):
            continue
        if (footer := lineage.footer(unit)) is not None:
            yield _check(experiment, lineage, unit, footer)
        elif unit in lineage.problems:
            yield Checked(unit, (_broken("readable", lineage.problems[unit]),))
    for name, one in zip(experiment.robustness, variants_of(experiment), strict=True):
        yield from (entry._replace(variant=name) for entry in check_stored(one, store.of_variant(name)))


def _check(experiment: Experiment, lineage: Lineage, unit: Unit, footer: Footer) -> Checked:
    try:
        table = lineage.store.read_table(*unit).table.replace_schema_metadata(None)
    except DamagedError as error:
        return Checked(unit, (_broken("readable", str(error)),))
    contract, state = data_contracts.load(unit.asset), lineage.state(unit)
    table = _with_later_columns(table, contract.arrow_schema)
    if footer.code_version != REGISTRY[unit.asset].code_version:
        return Checked(unit, (), state.reason or OTHER_CODE)
    if state.status in ("stale", "blocked"):
        alone = replace(contract, rules=tuple(rule for rule in contract.rules if not rule.parameters))
        return Checked(unit, data_contracts.validate(alone, table, {}).failed, state.reason)
    try:
        parameters = Work(
            experiment, lineage.store, lineage, unit, lineage.expect(unit), lambda line: None
        ).parameters()
    except StaleInputError as error:  # an input was replaced during the check
        return Checked(unit, (), str(error))
    except (FileNotFoundError, DamagedError) as error:
        return Checked(unit, (_broken("files_there", str(error)),))
    failed = data_contracts.validate(contract, table, parameters).failed
    if state.status == "missing":  # the table exists, but a folder that it names is incomplete
        failed = (*failed, _broken("files_there", state.reason))
    return Checked(unit, failed)


def _with_later_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Add the nullable columns of a contract that the table lacks, as tables of earlier versions of the contract do."""
    later = [field for field in schema if field.nullable and field.name not in table.column_names]
    for field in later:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names) if later and {*table.column_names} == {*schema.names} else table


def _broken(rule: Literal["readable", "files_there"], observed: str) -> RuleResult:
    description = "the table can be read" if rule == "readable" else "every file that it names exists"
    return RuleResult(rule, "error", False, 1, (), description, observed)
