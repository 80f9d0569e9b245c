"""The section `rounds` of an experiment file: its mistakes, one more round, and rounds that only the stored copy has.

`taskdiv round next` writes a round into the stored copy only. A user's file, or a process that read the copy before, lacks the
round, and must not remove it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from data_contracts import plain_yaml
from data_contracts.experiment_fields import strategy_names
from taskdiv_assets.experiment.declaration import Experiment
from taskdiv_assets.experiment.mistakes import Problem
from taskdiv_assets.experiment.order_settings import BY_MEANS, Rounds
from taskdiv_assets.selection import STRATEGIES

KEY = "rounds"


def round_problems(experiment: Experiment) -> Iterator[Problem]:
    """Yield the mistakes of the section `rounds` that its settings class does not find."""
    for name, rounds in experiment.rounds.items():
        if message := _problem(experiment, name, rounds):
            yield Problem(("rounds", name), message)


def _problem(experiment: Experiment, name: str, rounds: Rounds) -> str:
    of = rounds.of or name
    own = {order.name for order in experiment.own_orders}
    if name not in experiment.strategies:
        return f"{name!r} is not among the `strategies` of this file; add it there"
    if rounds.of and (name in STRATEGIES or name in own):
        return f"{name!r} is a strategy; leave out `of`, or choose another name for the strategy in rounds"
    if of != name and of in experiment.rounds:
        return f"{of!r} is in rounds itself; `of` is a strategy that orders the pool once"
    if of not in STRATEGIES or of in own:
        return f"unknown strategy {of!r}; expected one of {', '.join(BY_MEANS)}"
    if of not in BY_MEANS:
        return (
            f"{of} does not share labels among tasks by confidence alone, so rounds change nothing; "
            f"expected one of {', '.join(BY_MEANS)}"
        )
    if experiment.base_model is None:
        return "rounds train adapters, and this file names no `base_model`"
    compared = (
        (experiment.primary.strategy, experiment.primary.reference) if experiment.primary else experiment.strategies
    )
    if experiment.robustness and name in compared:
        return (
            f"variants (`robustness`) repeat the primary comparison, and cannot repeat rounds; {name} is compared there"
        )
    return ""


def with_rounds(text: str, rounds: Mapping[str, Any]) -> str:
    """Return the text of an experiment file with another section `rounds`. All other lines stay, also comments after the section.

    >>> with_rounds("a: 1\\nrounds: {s: {after: [5]}}\\nb: 2\\n", {"s": {"after": [5, 9]}})
    'a: 1\\nrounds:\\n  s:\\n    after:\\n    - 5\\n    - 9\\nb: 2\\n'
    """
    value, root, _ = plain_yaml.read(text, "the experiment file")
    section = plain_yaml.document({KEY: dict(rounds)})
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return plain_yaml.document({**(value or {}), KEY: dict(rounds)})
    lines, keys = text.splitlines(keepends=True), [key for key, _ in root.value]
    place = next((i for i, key in enumerate(keys) if key.value == KEY), None)
    if place is None:
        return f"{text.rstrip()}\n{section}"
    end = keys[place + 1].start_mark.line if place + 1 < len(keys) else len(lines)
    while lines[end - 1].lstrip()[:1] in ("", "#"):  # blank lines and comments belong to what follows
        end -= 1
    return "".join([*lines[: keys[place].start_mark.line], section, *lines[end:]])


def with_stored_rounds(text: str, stored: str) -> str:
    """Return the text of an experiment file, with the rounds of the text `stored` that continue its own rounds.

    A strategy without rounds in `text` has none yet, so all its stored rounds continue them. Texts that are not YAML give `text`.
    """
    try:
        new, old = plain_yaml.read(text, "the file").value, plain_yaml.read(stored, "the stored copy").value
    except plain_yaml.YamlError:
        return text
    if not isinstance(new, dict) or not isinstance(old, dict) or not isinstance(old.get(KEY), dict):
        return text
    own = new[KEY] if isinstance(new.get(KEY), dict) else {}
    names = strategy_names(new.get("strategies"))
    later = {
        name: {**(own.get(name) or entry), "after": entry["after"]}
        for name, entry in old[KEY].items()
        if isinstance(names, list) and name in names and _continues(entry, own.get(name, {"after": []}))
    }
    return with_rounds(text, {**own, **later}) if later else text


def _continues(entry: Any, before: Any) -> bool:
    longer, shorter = (one.get("after") if isinstance(one, dict) else None for one in (entry, before))
    if not isinstance(longer, list) or not isinstance(shorter, list):
        return False
    return len(longer) > len(shorter) and longer[: len(shorter)] == shorter
