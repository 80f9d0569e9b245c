"""The comparison of an edited experiment file with the stored copy: different settings, and results to recompute.

Settings are compared, not bytes. Comments, blanks, the order of keys and explicit defaults do not count as changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from data_contracts import plain_yaml
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.experiment.recorded_rounds import with_stored_rounds
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.store import Store

SHOWN_LENGTH_MAX = 60  # characters of a value in a message


class Change(NamedTuple):
    """One setting before and after an edit."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{self.key}: {shown(self.old)} → {shown(self.new)}"


class Edit(NamedTuple):
    """Effect of an edit of an experiment file."""

    lines: tuple[str, ...]  # one line per changed setting; empty if no setting changed
    again: Mapping[str, int]  # asset → number of stored results that would be recomputed
    consequence: str  # a sentence about the stored results


def look(stored: str, experiment: Experiment) -> Edit:
    """Return the changed settings of an edited experiment, and the stored results that would be computed again.

    `stored` is the text of the stored copy of its file. If this copy is no longer valid, a line says so.
    """
    before: Experiment | None = None
    try:
        before = experiment_file.parse(stored, "the stored copy")
        lines = [f"  {change}" for change in changes(before, experiment)]
    except experiment_file.ExperimentError:
        lines = ["  the stored copy is no longer valid"]
    if not lines:
        return Edit((), {}, "")
    again = made_again(before, experiment, Store(experiment.name))
    named = ", ".join(f"{asset} ({count})" if count > 1 else asset for asset, count in again.items())
    consequence = f"would be recomputed: {named}, and results that depend on them if their content changes"
    return Edit(tuple(lines), again, consequence if again else "no stored result is recomputed")


def since(experiment: Experiment, file: str) -> str:
    """Return a note if `file`, from which the experiment was read, has other settings now or cannot be used; otherwise ""."""
    try:
        text, origin = experiment_file.read_text(file)
        stored = Store(experiment.name).get("experiment.yaml") or b""
        now = experiment_file.parse(with_stored_rounds(text, stored.decode("utf-8", errors="replace")), origin)
    except (ValueError, OSError):
        return f"{file} is no longer valid (`taskdiv plan {file}` lists its mistakes); the stored copy is used"
    if now.name != experiment.name:
        return f"{file} now has the name {now.name!r}; {experiment.name} uses its stored copy"
    keys = ", ".join(change.key for change in changes(experiment, now))
    if not keys:
        return ""
    return (
        f"{file} has changed since it was read ({keys}); the stored copy is used. To use the file: `taskdiv run {file}`"
    )


def changes(old: Experiment, new: Experiment) -> Iterator[Change]:
    """Yield every setting that differs between two experiments, in the order of the fields."""
    yield from _changes("", old.model_dump(mode="json", by_alias=True), new.model_dump(mode="json", by_alias=True))


def _changes(key: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _changes(f"{key}.{name}" if key else name, old.get(name), new.get(name))
    elif old != new:
        yield Change(key, old, new)


def shown(value: object) -> str:
    """Return a value as one line of YAML, cut after 60 characters. None becomes "none". Keys with the value None are left out.

    >>> shown([1, 2]), shown({"path": "model", "hub": None}), shown(None)
    ('[1, 2]', '{path: model}', 'none')
    """
    if value is None:
        return "none"
    kept = {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value
    text = plain_yaml.written(kept)
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[:SHOWN_LENGTH_MAX]}…"


def made_again(before: Experiment | None, experiment: Experiment, store: Store) -> dict[str, int]:
    """Count, for each asset, the fresh stored results that an edit makes stale. The report is not counted.

    Results that depend on these results are not counted, because they stay fresh if recomputing does not change the content.
    `before` is the experiment before the edit. If it is None (unknown), all stored results count as fresh before the edit.
    """
    if store.read_footer("raw_pool") is None:
        return {}
    was, now = None if before is None else REGISTRY.look(before, store), REGISTRY.look(experiment, store)
    units = [unit for unit in REGISTRY.units(experiment, store, now.pool_size) if unit != Unit("strategy_report")]
    stored = [unit for unit in now.look_ahead(units) if now.footer(unit) is not None]
    stale = (unit for unit in stored if now.state(unit).status == "stale" and (was is None or was.is_fresh(unit)))
    return dict(Counter(unit.asset for unit in stale))
