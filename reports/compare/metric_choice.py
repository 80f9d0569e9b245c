"""The metric of each task: the one that the user names, or the first one that all systems have."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reports import words
from reports.compare.systems import SCORE, System

Scores = Mapping[tuple[str, str, int], float]  # (task, item, run) → score
Profile = dict[str, dict[str, bool]]  # task → metric → whether all its finite scores are from 0 to 1


class Choice(NamedTuple):
    """The metric of each task, and what else could be chosen."""

    of_task: dict[str, str]
    left_out: tuple[str, ...]  # tasks without a metric that all systems have
    others: tuple[str, ...]  # metrics that all systems have on a task and that were not chosen

    @property
    def label(self) -> str:
        return words.listing(list(dict.fromkeys(self.of_task.values())), most_n=3)


def choose(systems: Sequence[System], metric: str = "") -> Choice:
    """Choose a metric for each task that all systems have.

    Args:
        systems: At least two. A table of scores has one metric without a name, which fits any metric.
        metric: Name of a metric, with or without its filter. Default: for each task, the first metric in the order of the files
            that all systems have with numbers from 0 to 1.

    Raises:
        ValueError: no task has such a metric, or the metric is unknown, ambiguous, or not from 0 to 1.
    """
    profiles = [_profile(system) for system in systems]
    tasks = sorted({task for profile in profiles for task in profile})
    common = {task: _common(systems, profiles, task) for task in tasks}
    found = {}
    for task, names in common.items():
        fitting = [name for name in names if metric in (name, name.split(",")[0])] if metric else list(names)
        fitting = [metric] if metric in fitting else fitting
        if metric and len(fitting) > 1:
            raise ValueError(
                f"task {task} has {metric} with several filters; expected one of {words.listing(fitting, 'or')}"
            )
        if metric and fitting and not names[fitting[0]]:
            raise ValueError(
                f"{fitting[0]} of task {task} has scores outside 0 to 1; for another scale, write a CSV "
                "of task, item and score with the scores divided by their maximum"
            )
        if usable := [name for name in fitting if names[name]]:
            found[task] = usable[0]
    every = dict.fromkeys(name for names in common.values() for name, is_share in names.items() if is_share)
    if not found:
        named = f"the metric {metric!r}" if metric else "a metric with numbers from 0 to 1"
        listed = f"; all have {words.listing(list(every), 'and', 12)}" if every else ""
        raise ValueError(f"no task has {named} in all systems{listed}{_why_not(systems, metric)}")
    left_out = tuple(task for task in tasks if task not in found)
    return Choice(found, left_out, tuple(name for name in every if name not in set(found.values())))


def scores_of(system: System, choice: Choice) -> Scores:
    """Return the scores of a system by the chosen metric of each task."""
    if system.is_table:
        return {key: score for key, score in system.scores[SCORE].items() if key[0] in choice.of_task}
    chosen = dict.fromkeys(choice.of_task.values())
    return {
        key: score
        for metric in chosen
        for key, score in system.scores[metric].items()
        if choice.of_task.get(key[0]) == metric
    }


def _profile(system: System) -> Profile:
    found: Profile = {}
    for metric, scores in system.scores.items():
        for (task, _, _), score in scores.items():
            known = found.setdefault(task, {})
            known[metric] = known.get(metric, True) and (0 <= score <= 1 or score != score)
    return found


def _common(systems: Sequence[System], profiles: Sequence[Profile], task: str) -> dict[str, bool]:
    """Return the metrics of a task that all systems have, each with whether its scores are from 0 to 1 in all systems."""
    if not all(task in profile for profile in profiles):
        return {}
    named = [profile[task] for system, profile in zip(systems, profiles, strict=True) if not system.is_table]
    if not named:
        return {SCORE: True}
    return {name: all(own[name] for own in named) for name in named[0] if all(name in own for own in named)}


def _why_not(systems: Sequence[System], metric: str) -> str:
    found = [
        f"{one.name}: {name}, {why}" for one in systems for name, why in one.unusable.items() if metric in ("", name)
    ]
    return f" ({'; '.join(found[:3])})" if found else ""
