"""`taskdiv contracts check`: every stored table against its contract, as it lies there now.

The rules are the ones that each asset was held to before it was published; run again, they find what changed since:
a file that was edited, weights that rotted, inputs that moved on.
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
FILES_THERE = "every file that it names is there"


class Checked(NamedTuple):
    """A stored table and the rules that it breaks.

    Attributes:
        unit: the table.
        failed: rules that it breaks with the inputs that it was made from.
        out_of_date: why it would be made again; empty for a table that is up to date.
    """

    unit: Unit
    failed: tuple[RuleResult, ...]
    out_of_date: str = ""


def check_stored(experiment: Experiment, store: Store) -> Iterator[Checked]:
    """Validate every stored table of an experiment, in the order data flows.

    Rules that look at other tables judge a table by what its inputs are now. So they say nothing of one that was made from
    earlier inputs: of that one, only the rules that look at the table alone are checked. One that another version of the code
    made is not checked at all: the contract of today is not the one that it was held to.
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
        except StaleInputError as error:  # an input was replaced while we looked
            yield Checked(unit, (), str(error))
            continue
        except (FileNotFoundError, DamagedError) as error:
            yield Checked(unit, (_broken("files_there", str(error), FILES_THERE),))
            continue
        failed = list(data_contracts.validate(contract, table, parameters).failed)
        if state.status == "missing":  # its table is there, a folder that it names is not whole
            failed.append(_broken("files_there", state.reason, FILES_THERE))
        yield Checked(unit, tuple(failed))


def _broken(rule: str, observed: str, description: str) -> RuleResult:
    return RuleResult(rule, "error", False, 1, (), description, observed)
