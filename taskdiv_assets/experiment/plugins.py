"""Strategies that other installed packages bring: entry points of the group `taskdiv.strategies`.

One entry point per strategy: its name is the strategy's, its value a `selection.Strategy`. So the names are known without
importing anybody's code, and a package is imported only if an experiment names its strategy. A plug-in that cannot be used takes
only itself away. How to write one is in docs/SELECTION.md.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

import data_contracts
from taskdiv_assets.selection import NEEDS, STRATEGIES, Strategy
from taskdiv_assets.settings import NAME_PATTERN

GROUP = "taskdiv.strategies"
LOGGER = logging.getLogger("taskdiv.plugins")


class Plugin(NamedTuple):
    """A strategy of an installed package, before it is imported."""

    entry_point: EntryPoint
    distribution: str
    distribution_version: str

    @property
    def label(self) -> str:
        """Name and origin, for people.

        >>> Plugin(EntryPoint("shortest", "short:strategy", GROUP), "short-first", "1.0").label
        'strategy shortest of the package short-first 1.0'
        """
        return f"strategy {self.entry_point.name} of the package {self.distribution} {self.distribution_version}"


class Plugins(NamedTuple):
    """What is installed: the plug-ins by name, and a sentence for each that is left out."""

    by_name: Mapping[str, Plugin]
    problems: tuple[str, ...]


@cache
def installed() -> Plugins:
    """Return the installed plug-ins without importing them; those left out are logged, once per process."""
    found = sort_out(
        Plugin(one, one.dist.name if one.dist else "unknown", one.dist.version if one.dist else "unknown")
        for one in entry_points(group=GROUP)
    )
    for problem in found.problems:
        LOGGER.warning(problem)
    return found


def sort_out(plugins: Iterable[Plugin]) -> Plugins:
    """Leave out what has a name that cannot be used, is taken, or is given by two packages."""
    by_name: dict[str, list[Plugin]] = {}
    for plugin in plugins:
        by_name.setdefault(plugin.entry_point.name, []).append(plugin)
    kept, problems = {}, []
    for name, some in sorted(by_name.items()):
        if problem := _fault_of_name(name, some):
            problems.append(problem)
        else:
            kept[name] = some[0]
    return Plugins(kept, tuple(problems))


def _fault_of_name(name: str, some: list[Plugin]) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        return f"{some[0].label} is left out: a strategy's name has lower-case letters, digits and _ only"
    if name in STRATEGIES:
        return f"{some[0].label} is left out: a built-in strategy has this name"
    if name in data_contracts.names():
        return f"{some[0].label} is left out: an asset has this name"
    if len(some) > 1:
        others = " and ".join(f"{one.distribution} {one.distribution_version}" for one in some)
        return f"strategy {name} is left out: the packages {others} both bring one of this name; uninstall one of them"
    return ""


@cache
def load(name: str) -> Strategy:
    """Import the package of a plug-in and return its strategy.

    Raises:
        ValueError: no such plug-in, or one that cannot be used: one sentence.
    """
    plugin = installed().by_name.get(name)
    if plugin is None:
        raise ValueError(f"unknown strategy {name!r}; expected one of {', '.join(known_names())}")
    try:
        strategy = plugin.entry_point.load()
    except Exception as error:  # of code that is not ours
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{plugin.label} cannot be imported ({said}); repair or uninstall the package") from error
    if fault := _fault(strategy, name):
        raise ValueError(f"{plugin.label} cannot be used: {fault}; ask its authors for a repaired release")
    assert isinstance(strategy, Strategy)
    return strategy


def _fault(strategy: object, name: str) -> str:
    """What is wrong with the value of an entry point; empty if nothing is."""
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
    """Return the names of all strategies, built-in ones first."""
    return [*STRATEGIES, *installed().by_name]


def identity_of(name: str) -> dict[str, object]:
    """Return what a ranking's identity says of a plug-in: its own version, and the package's name and version.

    The package's version is a part of it because nothing else shows that code has changed that an author forgot to number.
    A ranking that is made again and comes out equal makes equal adapters, so a needless repeat costs little.
    """
    plugin = installed().by_name[name]
    return {
        "distribution": plugin.distribution,
        "distribution_version": plugin.distribution_version,
        "version": load(name).version,
    }
