"""`taskdiv contracts check`: every stored table against its contract, as it lies there now.

The rules are the ones that each asset was held to before it was published; run again, they find what changed since:
a file that was edited, weights that rotted, inputs that moved on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import data_contracts
from data_contracts import RuleResult
from taskdiv_assets.assets.factory import STAGES
from taskdiv_assets.assets.stage import Work
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.lineage import Lineage
from taskdiv_assets.models import StaleInputError
from taskdiv_assets.store import Store
from taskdiv_assets.units import Unit, all_units

UP_TO_DATE = "the table is made from what its inputs are now"


class Checked(NamedTuple):
    """A stored table and the rules that it breaks."""

    unit: Unit
    failed: tuple[RuleResult, ...]
    is_checked: bool = True  # False where an input is stale, so that its rules mean nothing


def check_stored(experiment: Experiment, store: Store) -> Iterator[Checked]:
    """Validate every stored table of an experiment, in the order data flows."""
    lineage = Lineage(experiment, store)
    stages = {stage.name: stage for stage in STAGES}
    for unit in all_units(experiment, store, lineage.pool_size):
        if lineage.footer(unit) is None:
            if unit in lineage.problems:
                yield Checked(unit, (_finding("readable", "error", lineage.problems[unit], "the table can be read"),))
            continue
        contract = data_contracts.load(unit.asset)
        try:
            work = Work(experiment, store, lineage, unit, lineage.expect(unit), lambda line: None)
            parameters = stages[unit.asset].parameters(work)
        except StaleInputError as error:
            yield Checked(unit, (_finding("up_to_date", "warning", str(error), UP_TO_DATE),), is_checked=False)
            continue
        except FileNotFoundError as error:
            yield Checked(unit, (_finding("files_there", "error", str(error), "every file that it names is there"),))
            continue
        table = store.read_table(*unit).table.replace_schema_metadata(None)
        failed = list(data_contracts.validate(contract, table, parameters).failed)
        state = lineage.state(unit)
        if state.status == "missing":  # its table is there, a folder that it names is not whole
            failed.append(_finding("files_there", "error", state.reason, "every file that it names is there"))
        elif state.status == "stale":
            failed.append(_finding("up_to_date", "warning", state.reason, UP_TO_DATE))
        yield Checked(unit, tuple(failed))


def _finding(rule: str, severity: Literal["error", "warning"], observed: str, description: str) -> RuleResult:
    return RuleResult(rule, severity, False, 1, (), description, observed)
