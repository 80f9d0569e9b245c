"""What an edited experiment file changes: its settings, one by one, and the stored results that would be made again.

Settings are compared, never bytes: comments, blanks, the order of keys and explicit defaults change nothing. Nothing here
asks or writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from data_contracts import plain_yaml
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.storage.store import Store

SHOWN_LENGTH_MAX = 60  # of a value


class Change(NamedTuple):
    """One setting, before and after."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{self.key}: {shown(self.old)} → {shown(self.new)}"


class Edit(NamedTuple):
    """What an edited file changes.

    Attributes:
        lines: a line each setting that changed; none where the meaning is the same.
        again: stored results that would be made again, counted by asset.
        consequence: what follows from the edit for what is stored, in a sentence.
    """

    lines: tuple[str, ...]
    again: Mapping[str, int]
    consequence: str


def look(stored: str, experiment: Experiment) -> Edit:
    """Compare the stored copy of an experiment file with the experiment as it is now.

    Args:
        stored: text of the copy.
        experiment: the edited file.
    """
    try:
        before: Experiment | None = experiment_file.parse(stored, "the stored copy")
    except experiment_file.ExperimentError:
        before = None
    lines = ["  the stored copy cannot be used any more"] if before is None else []
    lines += [f"  {change}" for change in (() if before is None else changes(before, experiment))]
    if not lines:
        return Edit((), {}, "")
    again = made_again(before, experiment, Store(experiment.name))
    named = ", ".join(f"{asset} ({count})" if count > 1 else asset for asset, count in again.items())
    return Edit(
        tuple(lines),
        again,
        f"would be made again: {named}, and what is made from that if its content changes"
        if again
        else "nothing that is stored is made again",
    )


def since(experiment: Experiment, file: str) -> str:
    """Return a sentence that says that the file of a stored experiment has changed since it was read; empty if not."""
    try:
        now = experiment_file.load(file)
    except (ValueError, OSError):
        return (
            f"{file} cannot be used any more (`taskdiv plan {file}` lists its mistakes); going on with the stored copy"
        )
    if now.name != experiment.name:
        return f"{file} names itself {now.name!r} now; {experiment.name} goes on with its stored copy"
    found = list(changes(experiment, now))
    if not found:
        return ""
    keys = ", ".join(change.key for change in found)
    return f"{file} has changed since ({keys}); going on with the stored copy. To take the file: `taskdiv run {file}`"


def changes(old: Experiment, new: Experiment) -> Iterator[Change]:
    """Return every setting that differs, in the order of the fields."""
    yield from _changes("", old.model_dump(mode="json", by_alias=True), new.model_dump(mode="json", by_alias=True))


def _changes(key: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _changes(f"{key}.{name}" if key else name, old.get(name), new.get(name))
    elif old != new:
        yield Change(key, old, new)


def shown(value: object) -> str:
    """A value as one line of YAML, without what a section leaves out.

    >>> shown([1, 2]), shown({"path": "model", "hub": None}), shown(None)
    ('[1, 2]', '{path: model}', 'none')
    """
    if value is None:
        return "none"
    kept = {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value
    text = plain_yaml.written(kept)
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[:SHOWN_LENGTH_MAX]}…"


def made_again(before: Experiment | None, experiment: Experiment, store: Store) -> dict[str, int]:
    """Count the stored results, by asset, that were up to date and have other settings now; the report does not count.

    What is made from them is not counted: it stays if their content turns out the same.

    Args:
        before: the experiment that made them; None if it is not known: then whatever is stored counts as up to date.
        experiment: as it is now.
        store: of both.
    """
    from taskdiv_assets.assets import REGISTRY
    from taskdiv_assets.graph.units import Unit

    if store.read_footer("raw_pool") is None:
        return {}
    was, now = None if before is None else REGISTRY.look(before, store), REGISTRY.look(experiment, store)
    units = [unit for unit in REGISTRY.units(experiment, store, now.pool_size) if unit != Unit("strategy_report")]
    stored = [unit for unit in now.look_ahead(units) if now.footer(unit) is not None]
    stale = [unit for unit in stored if now.state(unit).status == "stale" and (was is None or was.is_fresh(unit))]
    return dict(Counter(unit.asset for unit in stale))
