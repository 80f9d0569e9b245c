"""Checks of the installed versions of Python and of the packages that the project requires.

The checks read the metadata of packages. They import only the packages that provide strategies.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from typing import TypeVar

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from taskdiv_assets.commands.doctor.findings import Finding, Level
from taskdiv_assets.experiment import plugins

T = TypeVar("T")
SHOWN = ("dagster", "torch", "transformers", "peft", "trl", "lm-eval", "great-expectations", "pyarrow")


def of_package(read: Callable[[str], T], package: str) -> T | None:
    """Return `read(package)`, where `read` is a function of `importlib.metadata`. Return None if the package is not installed."""
    try:
        return read(package)
    except metadata.PackageNotFoundError:
        return None


def packages(python: str, own: Sequence[str] | None) -> Iterator[Finding]:
    """Check that Python and the installed packages satisfy the project's requirements.

    `python` gives the supported versions, such as ">=3.11". `own` lists the requirements; None if the project is not installed.
    An extra is checked only if all of its packages are installed. Dagster must also have the version that its web server needs.
    """
    found = platform.python_version()
    is_fit = SpecifierSet(python).contains(found, prereleases=True)
    advice = "" if is_fit else f"make the environment with Python {python}"
    yield Finding("well" if is_fit else "broken", "Python", found, advice)
    if own is None:
        found = "taskdiv-assets is not installed, so what it needs is not known"
        yield Finding("look", "packages", found, "install it, such as with `pip install -e .`")
        return
    wanted = [Requirement(text) for text in own]
    extras = {str(entry.marker): [other for other in wanted if other.marker == entry.marker] for entry in wanted}
    faults = [*_faults(extras.pop("None", []), "broken")]
    for entries in extras.values():
        if all(of_package(metadata.version, entry.name) for entry in entries):
            faults += _faults(entries, "look")
    webserver = of_package(metadata.requires, "dagster-webserver") or []
    pinned = [Requirement(text) for text in webserver]
    faults += _faults([entry for entry in pinned if entry.name == "dagster"], "broken")  # must be exactly one version
    yield from faults
    if not faults:
        shown = ", ".join(f"{name} {of_package(metadata.version, name)}" for name in SHOWN)
        yield Finding("well", "packages", f"all are as the project requires, such as {shown}")


def _faults(wanted: Iterable[Requirement], level: Level) -> Iterator[Finding]:
    for entry in wanted:
        found = of_package(metadata.version, entry.name)
        if found is None or not entry.specifier.contains(found, prereleases=True):
            said = f"{entry.name} {found or 'is missing'}, expected {entry.specifier or 'any version'}"
            yield Finding(level, "packages", said, f"pip install '{entry.name}{entry.specifier}'")


def strategy_plugins(found: plugins.Plugins) -> Iterator[Finding]:
    """Check the strategies that other packages provide."""
    for problem in found.problems:
        yield Finding("look", "plug-ins", problem)
    for name, plugin in found.by_name.items():
        try:
            strategy = plugins.load(name)
        except ValueError as error:
            yield Finding("broken", "plug-ins", str(error), "experiments that do not name it are not affected")
        else:
            needs = f", reads {', '.join(sorted(strategy.needs))}" if strategy.needs else ""
            yield Finding("well", "plug-ins", f"{plugin.label}, version {strategy.version}{needs}")
