"""`taskdiv contracts check`: every stored table against its contract, as it lies there now.

The rules are the ones that each asset was held to before it was published; run again, they find what changed since:
a file that was edited, weights that rotted, inputs that moved on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import data_contracts
from taskdiv_assets.assets.factory import STAGES
from taskdiv_assets.assets.stage import Work
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.lineage import Lineage, StaleInputError, Unit, all_units
from taskdiv_assets.store import Store


class Checked(NamedTuple):
    """A stored table and the rules that it breaks."""

    unit: Unit
    failed: tuple[data_contracts.RuleResult, ...]


def check_stored(experiment: Experiment, store: Store) -> Iterator[Checked]:
    """Validate every stored table of an experiment, in the order data flows."""
    lineage = Lineage(experiment, store)
    stages = {stage.name: stage for stage in STAGES}
    for unit in all_units(experiment, store, lineage.pool_size):
        if lineage.footer(unit) is None:
            continue
        contract = data_contracts.load(unit.asset)
        try:
            work = Work(experiment, store, lineage, unit, lineage.expect(unit), lambda line: None)
            parameters = stages[unit.asset].parameters(work)
        except (StaleInputError, FileNotFoundError) as error:
            yield Checked(unit, (_uncheckable(str(error)),))
            continue
        table = store.read_table(*unit).table.replace_schema_metadata(None)
        yield Checked(unit, tuple(data_contracts.validate(contract, table, parameters).failed))
        state = lineage.state(unit)
        if state.status == "stale":
            yield Checked(unit, (_uncheckable(state.reason),))


def _uncheckable(reason: str) -> data_contracts.RuleResult:
    return data_contracts.RuleResult(
        rule="up_to_date",
        severity="warning",
        passed=False,
        unexpected_n=0,
        examples=(),
        description="the table is made from what its inputs are now",
        observed=reason,
    )
