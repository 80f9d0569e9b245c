"""Plug-ins: strategies of other installed packages, as entry points of the group `taskdiv.strategies`.

The name of an entry point is the name of the strategy. The value of an entry point is a `selection.Strategy`. A package is
imported only if an experiment names its strategy. docs/SELECTION.md describes how to write a plug-in.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

import data_contracts
from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.selection import NEEDS, STRATEGIES, Strategy

GROUP = "taskdiv.strategies"
LOGGER = logging.getLogger("taskdiv.plugins")


class Plugin(NamedTuple):
    """A strategy of an installed package. Creating this object does not import the package."""

    entry_point: EntryPoint
    distribution: str
    distribution_version: str

    @property
    def label(self) -> str:
        """Name and package for error messages, such as `strategy shortest of the package short-first 1.0`."""
        return f"strategy {self.entry_point.name} of the package {self.distribution} {self.distribution_version}"


class Plugins(NamedTuple):
    """The usable plug-ins by name, and one sentence for each name that is left out."""

    by_name: Mapping[str, Plugin]
    problems: tuple[str, ...]


@cache
def installed() -> Plugins:
    """Return the installed plug-ins without importing them. The problems are logged once per process."""
    found = sort_out(
        Plugin(one, one.dist.name if one.dist else "unknown", one.dist.version if one.dist else "unknown")
        for one in entry_points(group=GROUP)
    )
    for problem in found.problems:
        LOGGER.warning(problem)
    return found


def sort_out(plugins: Iterable[Plugin]) -> Plugins:
    """Return the usable plug-ins, and the problems of the others.

    A name is left out if it is invalid, or belongs to a built-in strategy, to an asset or to several plug-ins.
    """
    by_name: dict[str, list[Plugin]] = {}
    for plugin in plugins:
        by_name.setdefault(plugin.entry_point.name, []).append(plugin)
    faults = {name: _fault_of_name(name, some) for name, some in sorted(by_name.items())}
    kept = {name: by_name[name][0] for name, fault in faults.items() if not fault}
    return Plugins(kept, tuple(filter(None, faults.values())))


def _fault_of_name(name: str, some: list[Plugin]) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        return f"{some[0].label} is left out: a strategy's name has lower-case letters, digits and _ only"
    if name in STRATEGIES:
        return f"{some[0].label} is left out: a built-in strategy has this name"
    if name in data_contracts.names():
        return f"{some[0].label} is left out: an asset has this name"
    if len(some) > 1:
        others = " and ".join(f"{one.distribution} {one.distribution_version}" for one in some)
        return f"strategy {name} is left out: the packages {others} both have one of this name; uninstall one of them"
    return ""


@cache
def load(name: str) -> Strategy:
    """Import the package of a plug-in and return its strategy; raise ValueError if the plug-in is unknown or broken."""
    plugin = installed().by_name.get(name)
    if plugin is None:
        raise ValueError(f"unknown strategy {name!r}; expected one of {', '.join(known_names())}")
    try:
        strategy = plugin.entry_point.load()
    except Exception as error:  # code of another package may raise any exception
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{plugin.label} cannot be imported ({said}); repair or uninstall the package") from error
    if fault := _fault(strategy, name):
        raise ValueError(f"{plugin.label} cannot be used: {fault}; ask its authors for a repaired release")
    assert isinstance(strategy, Strategy)
    return strategy


def _fault(strategy: object, name: str) -> str:
    if not isinstance(strategy, Strategy):
        return f"its entry point is a {type(strategy).__name__}, expected a taskdiv_assets.selection.Strategy"
    if strategy.name != name:
        return f"its strategy calls itself {strategy.name!r}, expected the name of the entry point"
    if unknown := sorted(set(strategy.needs) - NEEDS):
        return f"it needs {', '.join(unknown)}, expected some of {', '.join(sorted(NEEDS))}"
    if not isinstance(strategy.version, int | str):
        return f"its version is {strategy.version!r}, expected a whole number or text"
    return ""


def known_names() -> list[str]:
    """Return the names of all strategies: the built-in strategies first, then the plug-ins."""
    return [*STRATEGIES, *installed().by_name]


def identity_of(name: str) -> dict[str, object]:
    """Return the part of a ranking's identity that describes a plug-in: the versions of its strategy and its package.

    The version of the package is included because an author may change code and forget to raise the version of the strategy.
    If the new ranking equals the old one, no adapter is trained again.
    """
    plugin = installed().by_name[name]
    return {
        "distribution": plugin.distribution,
        "distribution_version": plugin.distribution_version,
        "version": load(name).version,
    }
