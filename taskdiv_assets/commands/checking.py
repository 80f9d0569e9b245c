"""Check every stored table against its data contract, for `taskdiv contracts check`.

Each table passed the same rules before it was published. A second check finds later changes: edited files, damaged weights and
newer inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import data_contracts
from data_contracts import RuleResult
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.states import StaleInputError
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage.store import DamagedError, Store

OTHER_CODE = "made by another version of the code"
FILES_THERE = "every file that it names exists"


class Checked(NamedTuple):
    """Result of the check of one stored table."""

    unit: Unit
    failed: tuple[RuleResult, ...]  # rules that the table breaks
    out_of_date: str = ""  # reason why `taskdiv run` would compute the table again; empty for a fresh table


def check_stored(experiment: Experiment, store: Store) -> Iterator[Checked]:
    """Check every stored table of an experiment, inputs first, and yield the results.

    Rules with parameters compare a table with its current inputs. For a table made from earlier inputs, only the rules without
    parameters are checked. A table made by another version of the code is not checked, because its contract may have changed.
    """
    lineage = REGISTRY.look(experiment, store)
    for unit in REGISTRY.units(experiment, store, lineage.pool_size):
        footer = lineage.footer(unit)
        if footer is None:
            if unit in lineage.problems:
                yield Checked(unit, (_broken("readable", lineage.problems[unit], "the table can be read"),))
            continue
        try:
            table = store.read_table(*unit).table.replace_schema_metadata(None)
        except DamagedError as error:
            yield Checked(unit, (_broken("readable", str(error), "the table can be read"),))
            continue
        contract, state = data_contracts.load(unit.asset), lineage.state(unit)
        if footer.code_version != REGISTRY[unit.asset].code_version:
            yield Checked(unit, (), state.reason or OTHER_CODE)
            continue
        if state.status in ("stale", "blocked"):
            alone = replace(contract, rules=tuple(rule for rule in contract.rules if not rule.parameters))
            yield Checked(unit, data_contracts.validate(alone, table, {}).failed, state.reason)
            continue
        try:
            work = Work(experiment, store, lineage, unit, lineage.expect(unit), lambda line: None)
            parameters = work.parameters()
        except StaleInputError as error:  # an input was replaced during the check
            yield Checked(unit, (), str(error))
            continue
        except (FileNotFoundError, DamagedError) as error:
            yield Checked(unit, (_broken("files_there", str(error), FILES_THERE),))
            continue
        failed = list(data_contracts.validate(contract, table, parameters).failed)
        if state.status == "missing":  # the table exists, but a folder that it names is incomplete
            failed.append(_broken("files_there", state.reason, FILES_THERE))
        yield Checked(unit, tuple(failed))


def _broken(rule: str, observed: str, description: str) -> RuleResult:
    return RuleResult(rule, "error", False, 1, (), description, observed)
