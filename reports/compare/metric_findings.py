"""What a reader must know about the metrics of a comparison, and the form of such a finding."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from reports import words
from reports.compare import lm_eval_samples
from reports.compare.metric_choice import Choice
from reports.compare.systems import System

SHOWN_N = 4  # names in one sentence


class Finding(NamedTuple):
    """Something about the files that a reader must know: a few words, and a sentence."""

    title: str
    text: str


def listed(names: Collection[str], noun: str) -> str:
    plural = "" if len(names) == 1 else "s"
    return f"the {noun}{plural} {words.listing([words.clean(name, 40) for name in sorted(names)], most_n=SHOWN_N)}"


def lower_is_better(systems: Sequence[System], choice: Choice) -> set[str]:
    """Return the tasks with a metric for which lower is better."""
    return {
        task
        for task, metric in choice.of_task.items()
        if any(metric.split(",")[0] in system.tasks[task].lower_is_better for system in systems)
    }


def flipped(systems: Sequence[System], choice: Choice) -> list[Finding]:
    tasks = lower_is_better(systems, choice)
    if not tasks:
        return []
    metric = words.listing(sorted({choice.of_task[task] for task in tasks}), most_n=SHOWN_N)
    where = listed(tasks, "task")
    text = f"A lower {metric} is better in {where}. The comparison uses 1 − {metric} there, so that more is better."
    return [Finding("lower is better", text)]


def several(choice: Choice) -> list[Finding]:
    of_metric: dict[str, set[str]] = {}
    for task, metric in choice.of_task.items():
        of_metric.setdefault(metric, set()).add(task)
    if len(of_metric) < 2:
        return []
    each = words.listing(
        [f"{metric} in {listed(tasks, 'task')}" for metric, tasks in of_metric.items()], most_n=SHOWN_N
    )
    return [Finding("several metrics", f"Each task counts with the first metric that all systems have: {each}.")]


def of_tables(systems: Sequence[System], choice: Choice, is_named: bool) -> list[Finding]:
    """Return a finding on the metric that the score of a table is taken as, if the other systems name metrics.

    A table does not name its metric. More is always better in a table, so its scores are never turned into 1 − score.

    Raises:
        ValueError: the user did not name the metric, and for one of the chosen metrics lower is better, or it is not known.
    """
    tables, others = [one for one in systems if one.is_table], [one for one in systems if not one.is_table]
    if not tables or not others:
        return []
    names = words.listing([words.clean(one.name, 40) for one in tables], most_n=SHOWN_N)
    lower = lower_is_better(systems, choice)
    for task, metric in choice.of_task.items() if not is_named else ():
        why = "a lower one is better" if task in lower else "the files do not tell whether a higher one is better"
        if task in lower or any(_is_unclear(one, task, metric) for one in others):
            raise ValueError(
                f"{names} has scores without a metric, the other files have {metric} in task {words.clean(task, 40)}, and {why}; "
                f"name the metric with --metric (a table's score is taken as it is: more is better)"
            )
    metrics = dict.fromkeys(f"1 − {metric}" if task in lower else metric for task, metric in choice.of_task.items())
    text = (
        f"The score of {names} is taken as {words.listing(list(metrics), most_n=SHOWN_N)}. More is better in a table."
    )
    return [Finding("metric of a table", text)]


def _is_unclear(system: System, task: str, metric: str) -> bool:
    own, name = system.tasks[task], metric.split(",")[0]
    return system.form == lm_eval_samples.FORM and name not in own.higher_is_better | own.lower_is_better
