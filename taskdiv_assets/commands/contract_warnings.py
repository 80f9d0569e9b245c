"""Warning lines for stored tables that broke a contract rule of severity "warning"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_contracts.footer import RuleResult
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.store import Store

SHOWN_N = 2  # lines that remain if more than three tables of an asset break the same rule; the other tables are counted


class Warned(NamedTuple):
    """A contract rule of severity "warning" that a table broke."""

    unit: Unit
    rule: str
    observed: str
    description: str


def of_rules(unit: Unit, rules: Iterable[RuleResult]) -> list[Warned]:
    """Return the broken rules of severity "warning" among `rules`, the checked rules of one table."""
    return [
        Warned(unit, rule.rule, rule.observed, rule.description)
        for rule in rules
        if rule.severity == "warning" and not rule.passed
    ]


def warning_lines(found: Sequence[Warned]) -> list[str]:
    """Return one line per warning. If more than three tables of an asset break the same rule, only two of them get a line.

    One more line then contains the number of the other tables.

    >>> one = Warned(Unit("allocation", "12|random"), "few", "1", "Two prompts a task.")
    >>> warning_lines([one])
    ['warning: allocation/12|random: few: 1 (Two prompts a task)']
    """
    groups: dict[tuple[str, str], list[Warned]] = {}
    for one in found:
        groups.setdefault((one.unit.asset, one.rule), []).append(one)
    lines = []
    for (asset, rule), alike in groups.items():
        shown = alike if len(alike) <= SHOWN_N + 1 else alike[:SHOWN_N]
        lines += [
            f"warning: {one.unit}: {one.rule}: {_flat(one.observed)} ({_flat(one.description).rstrip('.')})"
            for one in shown
        ]
        if len(shown) < len(alike):
            kind = "cells" if "|" in (alike[0].unit.key or "") else "strategies"
            lines.append(f"warning: {asset}: {rule}: and {len(alike) - len(shown):,} more {kind}")
    return lines


def stored_warnings(experiment: Experiment, store: Store, wanted: Filter) -> list[str]:
    """Return the warning lines of the fresh stored tables that `wanted` selects and `is_of_interest` accepts."""
    lineage = REGISTRY.look(experiment, store)
    every = REGISTRY.units(experiment, store, lineage.pool_size, wanted.assets(experiment))
    units = [unit for unit in every if wanted.wants(unit) and is_of_interest(experiment, unit.asset)]
    found: list[Warned] = []
    for unit in lineage.look_ahead(units):
        if lineage.is_fresh(unit) and (footer := lineage.footer(unit)):
            found += of_rules(unit, footer.rules)
    return warning_lines(found)


def is_of_interest(experiment: Experiment, asset: str) -> bool:
    """Return False for the report, whose page describes problems itself, and for the task labels of a pool without tasks."""
    return asset != "strategy_report" and (asset != "task_labels" or experiment.labels_from != "none")


def _flat(text: str) -> str:
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
