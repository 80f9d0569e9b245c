"""The table task_labels from the texts of the prompts: tasks by rules, found tasks, or both.

The notes in the table's footer describe each found task. The UI, the figure of the tasks and `taskdiv tasks` read these notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from taskdiv_assets.experiment.pool_settings import DISCOVERED, TaskLabels
from taskdiv_assets.experiment.view_settings import WORDS
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.discovery import found_tasks, task_rules
from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.pools.discovery.count_curve import Curve
from taskdiv_assets.pools.discovery.found_tasks import Bound, Found
from taskdiv_assets.pools.discovery.vector_views import Vectors
from taskdiv_assets.pools.labels import How

NOTE = "found_tasks"  # key in the footer of task_labels
CURVE = "curve"  # key in the note of found tasks: other numbers of tasks (`count_curve`)
SHOWN_N = 160  # characters of a central prompt in the notes


class Labelled(NamedTuple):
    """The table task_labels and its notes."""

    table: pa.Table
    notes: dict[str, Any]
    again: Codes | None = None  # (found prompts,) see `Found`; None if no tasks were found
    votes: pa.Table | None = None  # confidence of each voted task, see `partial`; None if no prompts voted


def by_texts(
    pool: pa.Table,
    settings: TaskLabels,
    budget_n: int,
    log: Callable[[str], None],
    known: Collection[str] = (),
    vectors: Sequence[Vectors] = (),  # (n, d) each; row i belongs to row i of the pool
) -> Labelled:
    """Label the prompts of a pool by the rules of `settings`. A prompt without a match gets a found task or `settings.rest`.

    `vectors` belong to the views of `settings` other than `words`. If `settings.tasks` is None, the number of tasks to look for
    is computed from `budget_n`, usually the smallest budget.
    """
    prompts, ids = pool["prompt"].to_pylist(), pool["prompt_id"].to_pylist()
    rules = settings.rules or ()
    matches = task_rules.matched(prompts, rules) if rules else [None] * len(prompts)
    tasks = [settings.rest if match is None else rules[match].task for match in matches]
    how: list[How] = ["rules" if settings.rules else "discovered"] * len(tasks)
    notes: dict[str, Any] = {"prompts_by_rule": _counts(matches, len(rules))} if rules else {}
    rest = [i for i, match in enumerate(matches) if match is None]
    if not settings.finds_tasks or not rest:
        return Labelled(labels.labelled(pool, tasks, how), {"tasks_n": len(set(tasks)), **notes})
    tasks_n = settings.tasks or found_tasks.tasks_by_rule(len(rest), budget_n)
    log(f"looking for {tasks_n:,} tasks among {len(rest):,} prompts")
    texts = [prompts[i] for i in rest]
    taken = [*(rule.task for rule in rules), *known, DISCOVERED]
    some = [one if len(rest) == len(tasks) else one[rest] for one in vectors]
    found = found_tasks.discover(
        texts, [ids[i] for i in rest], tasks_n, taken, with_words=WORDS in settings.views, vectors=some, with_curve=True
    )
    for i, code in zip(rest, found.codes.tolist(), strict=True):
        tasks[i], how[i] = found.tasks[code].name, "discovered"
    described = {"budget_n": None if settings.tasks else budget_n, "tasks_n": tasks_n, "view": settings.view_name}
    bound: Bound = "given" if settings.tasks else found_tasks.bound_of_rule(len(rest), budget_n)
    notes[NOTE] = {**described, **_described(found, texts, [ids[i] for i in rest]), CURVE: _noted(found.curve, bound)}
    return Labelled(labels.labelled(pool, tasks, how), {"tasks_n": len(set(tasks)), **notes}, found.again)


def _counts(matches: Sequence[int | None], rules_n: int) -> list[int]:
    """Return the number of prompts that each rule labelled."""
    counts = Counter(matches)
    return [counts[i] for i in range(rules_n)]


def _described(found: Found, prompts: Sequence[str], ids: Sequence[str]) -> dict[str, Any]:
    return {
        "agreement": {name: round(value, 4) for name, value in found.agreement._asdict().items()},
        "tasks": [
            {
                "task": one.name,
                "prompts_n": one.prompts_n,
                "terms": list(one.terms),
                "central": [{"prompt_id": ids[i], "prompt": prompts[i][:SHOWN_N]} for i in one.central],
                "place": list(one.place),
            }
            for one in found.tasks
        ],
    }


def _noted(curve: Curve | None, bound: Bound) -> dict[str, Any] | None:
    return (
        None
        if curve is None
        else {"bound": bound, **curve._asdict(), "points": [one._asdict() for one in curve.points]}
    )


def agreement_of(notes: Mapping[str, Any]) -> float | None:
    """Return the smaller of the two adjusted Rand indices in the notes of task_labels; None if no tasks were found."""
    found = notes.get(NOTE)
    return min(found["agreement"]["between_seeds"], found["agreement"]["between_halves"]) if found else None
