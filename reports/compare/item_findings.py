"""What a reader must know about the items, tasks and runs that a comparison does not use."""

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np

from reports import words
from reports.compare.metric_choice import Scores
from reports.compare.metric_findings import SHOWN_N, Finding, listed
from reports.compare.systems import Item
from reports.statistics import Arm

LACKING_N = 3  # systems in one finding
FEW_N = 5  # a task with fewer common items says little


def left_out(
    of: Mapping[str, Scores],
    items: Mapping[str, set[Item]],
    common: set[Item],
    means: Mapping[str, Mapping[Item, float]],
) -> list[Finding]:
    """Return a finding on the items that some system has and the comparison does not use.

    Args:
        of: The scores of each system.
        items: The items of each system that have a finite score in each run.
        common: The items that are compared.
        means: For each system, the mean score over runs of each of its `items`. More is better.
    """
    known = {(task, item) for own in of.values() for task, item, _ in own}
    if known == common:
        return []
    parts = [_lacking(name, of, known - own, common, means) for name, own in items.items() if known - own]
    used = f"{len(common):,} of the {words.count(len(known), 'item')}"
    warning = " Missing scores can decide a comparison." if parts else ""
    more = f" {words.count(len(parts) - LACKING_N, 'more system')} lack others." if len(parts) > LACKING_N else ""
    text = f"The comparison uses {used} of the files.{warning} {' '.join(parts[:LACKING_N])}{more}"
    return [Finding(f"{words.count(len(known) - len(common), 'item')} left out", text.strip())]


def _lacking(
    name: str,
    of: Mapping[str, Scores],
    lacking: set[Item],
    common: set[Item],
    means: Mapping[str, Mapping[Item, float]],
) -> str:
    """Return sentences on the items without a score of one system: their number, and what the others score there."""
    text = f"{words.clean(name, 40)} has no score for {len(lacking):,}"
    if empty_n := len(lacking & {(task, item) for task, item, _ in of[name]}):
        text += f" ({empty_n:,} without a finite score in each run)"
    others = [own for other, own in means.items() if other != name]
    there = [own[item] for own in others for item in lacking if item in own]
    if not there:
        return f"{text}."
    here = [own[item] for own in others for item in common]
    return f"{text}: the others score {np.mean(there):.2f} there and {np.mean(here):.2f} on the items in use."


def small_tasks(of: Mapping[str, Scores], common: set[Item]) -> list[Finding]:
    """Return a finding on the tasks that lost most of their items, or have fewer than FEW_N, if there are several tasks."""
    whole = Counter(task for task, _ in {(task, item) for own in of.values() for task, item, _ in own})
    kept = Counter(task for task, _ in common)
    found = []
    if gone := set(whole) - set(kept):
        they = "It is" if len(gone) == 1 else "They are"
        text = f"No item is in common in {listed(gone, 'task')}. {they} left out."
        found.append(Finding(f"{words.count(len(gone), 'task')} without common items", text))
    few = {task for task, count in kept.items() if count < FEW_N or 2 * count < whole[task]}
    if few and len(kept) > 1:
        parts = [f"{words.clean(task, 40)} ({kept[task]:,} of {whole[task]:,})" for task in sorted(few)]
        weight = f"Each of the {len(kept):,} tasks has the same weight, however few items it has."
        text = f"Few common items: {words.listing(parts, most_n=SHOWN_N)}. {weight}"
        found.append(Finding(f"{words.count(len(few), 'task')} with few common items", text))
    return found


def unshared_runs(arms: Mapping[str, Arm]) -> list[Finding]:
    """Return a finding on the runs that the difference of two systems does not use, because only one system has them.

    The rule is that of `difference.compare`: with two common seeds or more, only these are used.
    """
    parts = []
    for first, second in combinations(arms, 2):
        shared = set(arms[first].seeds) & set(arms[second].seeds)
        for one, other in ((first, second), (second, first)):
            own = arms[one].seeds
            if len(shared) >= 2 and len(own) > len(shared):
                unused = f"{len(own) - len(shared):,} of {words.count(len(own), 'run')} of {words.clean(one, 40)}"
                are = "is" if len(own) - len(shared) == 1 else "are"
                parts.append(f"{unused} {are} not used in the difference from {words.clean(other, 40)}")
    if not parts:
        return []
    text = f"{words.listing(parts, most_n=SHOWN_N)}, because the other system has no such runs."
    return [Finding("runs without a partner", text)]


def why_nothing(of: Mapping[str, Scores], items: Mapping[str, Collection[Item]]) -> str:
    """Return a sentence if the systems share ids of items, but not one of them has a finite score in each run of each system."""
    ids = [{(task, item) for task, item, _ in own} for own in of.values()]
    shared = set.intersection(*ids)
    if not shared or set.intersection(*(set(own) for own in items.values())):
        return ""
    parts = [
        f"{words.clean(name, 40)} lacks one for {len(shared - set(own)):,}"
        for name, own in items.items()
        if shared - set(own)
    ]
    each = words.listing(parts, most_n=SHOWN_N)
    return (
        f"all systems have {words.count(len(shared), 'item')} in common, but none has a finite score in each run of every "
        f"system ({each}); add the missing scores, or remove the runs that lack them"
    )
