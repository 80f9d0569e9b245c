"""The items that all systems have in common, as arrays of scores, and everything about the files that a reader must know.

A comparison needs the same question, the same right answer and the same metric. Items without these are left out and counted.
Other differences, such as prompts and few-shot examples, stay in the comparison and are stated.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from reports import words
from reports.compare import item_findings, metric_findings
from reports.compare.metric_choice import Scores, choose, scores_of
from reports.compare.metric_findings import SHOWN_N, Finding, listed
from reports.compare.systems import Item, System
from reports.scores import ScoreSet, score_sets
from reports.statistics import Arm

ARM_N = 1  # `scores` stores arms by name and budget. Systems have no budget; 0 would mark the base model


class Joined(NamedTuple):
    """All systems on their common items."""

    systems: tuple[System, ...]
    reference: str
    metric: str
    scores: ScoreSet
    arms: dict[str, Arm]  # by name of the system; without seeds if every system was run once
    runs: dict[str, tuple[int, ...]]
    kept_n: dict[str, int]  # items of each system that have this metric
    findings: tuple[Finding, ...]
    other_metrics: tuple[str, ...]


def join(systems: Sequence[System], metric: str = "", reference: str = "") -> Joined:
    """Join systems on the tasks and items that all of them have.

    Args:
        systems: At least two, with different names.
        metric: The metric to compare. Default: for each task, the first that all systems have (see `metric_choice`).
        reference: Name of the system that the others are compared with. Default: the first.

    Raises:
        ValueError: there is no such system or metric, or no item is in common.
    """
    names = [system.name for system in systems]
    if reference and reference not in names:
        raise ValueError(f"no system is called {reference!r}; expected {words.listing(names, 'or')}")
    choice = choose(systems, metric)
    tasks = set(choice.of_task)
    findings = _tasks_left_out(set(choice.left_out)) + metric_findings.several(choice)
    of = {system.name: scores_of(system, choice) for system in systems}
    runs = {name: _runs(name, own, findings) for name, own in of.items()}
    items = {name: _items(own, runs[name]) for name, own in of.items()}
    common = _same_items(systems, items, findings)
    if not common:
        raise ValueError(item_findings.why_nothing(of, items) or _nothing_in_common(systems, of, findings))
    findings += metric_findings.of_tables(systems, choice, bool(metric))
    findings += _other_prompts(systems, common) + _other_settings(systems, tasks)
    findings += metric_findings.flipped(systems, choice)
    findings += [Finding("about the files", note) for system in systems for note in system.notes]
    flipped = metric_findings.lower_is_better(systems, choice)
    of = {one.name: of[one.name] if one.is_table else _turned(of[one.name], flipped) for one in systems}
    scores, arms = _arms(systems, of, runs, common, choice.label)
    every_once = all(len(own) == 1 for own in runs.values())
    if every_once:
        arms = {name: Arm(arm.scores) for name, arm in arms.items()}
    means = {name: _means(of[name], runs[name], items[name]) for name in of}
    unused = item_findings.left_out(of, items, common, means) + item_findings.small_tasks(of, common)
    said = _same_content(systems, arms) + _run_counts(runs) + item_findings.unshared_runs(arms)
    kept_n = {name: len(own) for name, own in items.items()}
    others = reference or systems[0].name, choice.label, scores, arms, runs, kept_n
    return Joined(tuple(systems), *others, (*unused, *said, *findings), choice.others)


# --- runs and items ---------------------------------------------------------------------------------------------------


def _tasks_left_out(tasks: set[str]) -> list[Finding]:
    if not tasks:
        return []
    they = "It is" if len(tasks) == 1 else "They are"
    text = f"Not every system has scores from 0 to 1 of the wanted metric in {listed(tasks, 'task')}. {they} left out."
    return [Finding(f"{words.count(len(tasks), 'task')} left out", text)]


def _runs(name: str, own: Scores, findings: list[Finding]) -> tuple[int, ...]:
    """Return the runs that all tasks have, and add a finding on the others."""
    by_task: dict[str, set[int]] = {}
    for task, _, run in own:
        by_task.setdefault(task, set()).add(run)
    if not by_task:
        return ()
    kept = set.intersection(*by_task.values())
    gone = set.union(*by_task.values()) - kept
    if not kept:
        raise ValueError(
            f"the tasks of {name} have no run (seed or epoch) in common; expected at least one run of all tasks"
        )
    if gone:
        them = "it" if len(gone) == 1 else "them"
        text = f"{words.count(len(gone), 'run')} of {name} left out, because not every task has {them}."
        findings.append(Finding("runs left out", text))
    return tuple(sorted(kept))


def _items(own: Scores, runs: tuple[int, ...]) -> set[Item]:
    """Return the items that have a finite score in each of `runs`."""
    known = Counter((task, item) for (task, item, run), score in own.items() if score == score and run in runs)
    return {item for item, count in known.items() if count == len(runs)}


def _means(own: Scores, runs: tuple[int, ...], items: set[Item]) -> dict[Item, float]:
    """Return the mean over `runs` of each of `items`."""
    return {(task, item): sum(own[task, item, run] for run in runs) / len(runs) for task, item in items}


def _turned(own: Scores, flipped: set[str]) -> Scores:
    """Return 1 − score in the tasks `flipped`, so that more is better."""
    return {key: 1 - score if key[0] in flipped else score for key, score in own.items()} if flipped else own


def _same_items(systems: Sequence[System], items: Mapping[str, set[Item]], findings: list[Finding]) -> set[Item]:
    """Return the items that all systems have with one question and one right answer, and add findings on the others."""
    common = set.intersection(*items.values())
    for field, what in (("question", "another question"), ("target", "another right answer")):
        other = {item for item in common if _differs(systems, item, field)}
        if other:
            common = common - other
            text = (
                f"{words.count(len(other), 'item')} {'has' if len(other) == 1 else 'have'} {what} under the same id in another "
                f"system ({listed({task for task, _ in other}, 'task')}): left out."
            )
            findings.append(Finding(what, text))
    return common


def _differs(systems: Sequence[System], item: Item, field: str) -> bool:
    """Return whether two systems of one form of files have different hashes. Each program hashes something else."""
    of_form: dict[str, set[str]] = {}
    for system in systems:
        if (own := system.hashes.get(item)) is not None:
            of_form.setdefault(system.form, set()).add(getattr(own, field))
    return any(len(own - {""}) > 1 for own in of_form.values())


def _nothing_in_common(systems: Sequence[System], of: Mapping[str, Scores], findings: Sequence[Finding]) -> str:
    reasons = " ".join(finding.text for finding in findings)
    examples = []
    for system in systems[:3]:
        keys = sorted(of[system.name]) or sorted(key for own in system.scores.values() for key in own)
        task, item = keys[0][:2] if keys else ("none", "none")
        examples.append(f"{system.name} has task {words.clean(task, 40)!r}, item {words.clean(item, 40)!r}")
    return f"the systems have no item in common: {'; '.join(examples)}. Items are matched by task and id. {reasons}".strip()


# --- differences that stay ---------------------------------------------------------------------------------------------


def _other_prompts(systems: Sequence[System], common: set[Item]) -> list[Finding]:
    other = {item for item in common if _differs(systems, item, "prompt")}
    if not other:
        return []
    text = (
        f"{len(other):,} of {words.count(len(common), 'item')} were asked with different prompts "
        f"({listed({task for task, _ in other}, 'task')}). A difference can come from the prompts instead of the models."
    )
    return [Finding("different prompts", text)]


def _other_settings(systems: Sequence[System], tasks: set[str]) -> list[Finding]:
    """Return a finding for each setting that systems have with different values on one of `tasks`."""
    names = dict.fromkeys(name for one in systems for task in sorted(tasks) for name in one.tasks[task].settings)
    found = []
    for name in names:
        values = {task: [one.tasks[task].settings.get(name, "") for one in systems] for task in sorted(tasks)}
        other = {task: own for task, own in values.items() if len({*own} - {""}) > 1}
        if other:
            task, own = next(iter(other.items()))
            each = words.listing(
                [
                    f"{words.clean(value, 40) or 'unknown'} in {one.name}"
                    for value, one in zip(own, systems, strict=True)
                ]
            )
            more = f" ({len(other) - 1:,} more tasks differ too)" if len(other) > 1 else ""
            text = f"Task {words.clean(task, 40)}: {words.clean(name, 60)} is {each}{more}."
            found.append(Finding(f"different {words.clean(name, 40)}", text))
    return found


def _same_content(systems: Sequence[System], arms: Mapping[str, Arm]) -> list[Finding]:
    """Return findings on pairs of systems that were read from the same files, or have the same scores."""
    same_files, same_scores = [], []
    for first, second in combinations(systems, 2):
        if first.digests == second.digests:
            same_files.append(f"{first.name} and {second.name}")
        elif np.array_equal(arms[first.name].scores, arms[second.name].scores):
            same_scores.append(f"{first.name} and {second.name}")
    found = []
    if same_files:
        text = (
            f"Read from the same files: {words.listing(same_files, most_n=SHOWN_N)}. A system is compared with itself."
        )
        found.append(Finding("same files", text))
    if same_scores:
        each = words.listing(same_scores, most_n=SHOWN_N)
        text = f"The same score on every item that is compared: {each}. Are these different systems?"
        found.append(Finding("identical scores", text))
    return found


def _run_counts(runs: Mapping[str, tuple[int, ...]]) -> list[Finding]:
    once = [name for name, own in runs.items() if len(own) == 1]
    if len(once) == len(runs):
        text = "Each system was run once, so this counts items only: another run of the same system may differ."
        return [Finding("one run each", text)]
    if once:
        text = (
            f"{words.listing(once)} {'was' if len(once) == 1 else 'were'} run once and others several times: a single run is "
            "assumed to vary as the runs of the other system do. Two single runs get no verdict here: compare them without "
            "the other systems to get one about these two runs."
        )
        return [Finding("unequal numbers of runs", text)]
    return []


# --- arrays ------------------------------------------------------------------------------------------------------------


def _arms(
    systems: Sequence[System],
    of: Mapping[str, Scores],
    runs: Mapping[str, tuple[int, ...]],
    common: set[Item],
    metric: str,
) -> tuple[ScoreSet, dict[str, Arm]]:
    """Return the scores of all systems on the items `common`.

    Equal seeds of two tables are pairs. The epochs of each other system get numbers of their own, so that none are pairs.
    """
    items = sorted(common)
    tables = []
    for place, system in enumerate(systems):
        name, own, shift = system.name, of[system.name], 0 if system.is_table else (place + 1) * 1_000_000_000
        keys = [(task, item, run) for run in runs[name] for task, item in items]
        columns = {
            "training_seed": pa.array([shift + run for _, _, run in keys], pa.int64()),
            "benchmark": pa.array([""] * len(keys), pa.string()),
            "task": pa.array([task for task, _, _ in keys], pa.string()),
            "item_id": pa.array([item for _, item, _ in keys], pa.string()),
            "metric": pa.array([metric] * len(keys), pa.string()),
            "score": pa.array([own[key] for key in keys], pa.float64()),
        }
        tables.append(((name, ARM_N), pa.table(columns)))
    (scores,) = score_sets(tables)
    return scores, {name: scores.arms[name, ARM_N] for name in of}
