"""Checks of found tasks: the labels that another seed of k-means would move, and the agreement with true tasks.

The numbers are stored in the notes of task_labels when the tasks are found. The report shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_contracts.shared_statistics import total_variation
from taskdiv_assets.pools.discovery import evenness
from taskdiv_assets.pools.discovery.agreement import matched
from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.pools.discovery.labelling import NOTE, Labelled
from taskdiv_assets.selection import SelectionPool, parse_prompt_ids, rank

MOVED_LABELS = "moved_labels"  # key in the note of found tasks: [{budget_n, share}]
WITH_TRUE = "with_true"  # key in the same note: {tasks_n, prompts_n, rand, information, purity}


def noted(labelled: Labelled, pool: pa.Table, budgets: Sequence[int], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the notes of a table task_labels, with the notes of this module if the whole table was made just now."""
    notes = labelled.notes
    if labelled.again is None:
        return notes
    added = notes_on(labelled.table, labelled.again, pool["source_task"].to_pylist(), budgets, seeds)
    return {**notes, NOTE: {**notes[NOTE], **added}}


def notes_on(
    labels: pa.Table,  # task_labels
    again: Codes,  # (found prompts,) group of each prompt with a found task, in the order of `labels`, under another seed
    source_tasks: Sequence[str | None],  # (n,) task of each prompt in the source
    budgets: Sequence[int],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Return this module's notes on the found tasks: `MOVED_LABELS` and `WITH_TRUE`.

    `WITH_TRUE` is left out if a prompt has no task in the source, or if all prompts have the same one.
    """
    names, tasks = np.unique(labels["task"].to_pylist(), return_inverse=True)
    is_found = np.array(labels["how"].cast(pa.string()).to_pylist()) == "discovered"
    others = tasks.astype(np.int64)
    others[is_found] = len(names) + again  # prompts with a task by a rule keep it
    ids = parse_prompt_ids(labels["prompt_id"].to_pylist())
    fitting = sorted({budget_n for budget_n in budgets if budget_n <= len(ids)})
    shares = moved_labels(ids, tasks.astype(np.int64), others, names.tolist(), fitting, seeds) if fitting else []
    notes: dict[str, Any] = {
        MOVED_LABELS: [
            {"budget_n": budget_n, "share": round(share, 4)} for budget_n, share in zip(fitting, shares, strict=True)
        ]
    }
    true = true_tasks(source_tasks)
    if true is not None:
        own = np.unique(true[is_found], return_inverse=True)[1].astype(np.int64)
        measures = evenness.with_true(own, tasks[is_found].astype(np.int64))._asdict()
        counts = {"tasks_n": int(own.max()) + 1, "prompts_n": len(own)}
        notes[WITH_TRUE] = {**counts, **{name: round(value, 4) for name, value in measures.items()}}
    return notes


def true_tasks(source_tasks: Sequence[str | None]) -> Codes | None:
    """Return the code of each prompt's task in the source; None if a prompt has no task, or all have the same task.

    >>> true_tasks(["b", "a", "b"]).tolist(), true_tasks(["b", None]), true_tasks(["b", " "]), true_tasks(["b", "b"])
    ([1, 0, 1], None, None, None)
    """
    if not all(task is not None and task.strip() for task in source_tasks):
        return None
    names, codes = np.unique([str(task) for task in source_tasks], return_inverse=True)
    return codes.astype(np.int64) if len(names) > 1 else None


def moved_labels(
    ids: NDArray[np.uint64],  # (n,)
    tasks: Codes,  # (n,) positions in `names`
    others: Codes,  # (n,) groups of the same prompts under another seed of k-means
    names: Sequence[str],
    budgets: Sequence[int],
    seeds: Sequence[int],  # of the selection; the values are means over them
) -> list[float]:
    """Return for each budget the share of its labels that `task_diversity` would give to other tasks if `others` were the tasks.

    One list is chosen with `tasks`, the other with `others`, under the same selection seed. The prompts of both are counted by
    `tasks`. The value is the total variation of these counts. Groups that match a task get its name, so equal groupings give 0.
    """
    renamed = matched(tasks, others)
    more = [f"\0{number}" for number in range(len(names), int(renamed.max()) + 1)]  # no task has such a name
    pools = [
        SelectionPool(ids, codes.astype(np.int32), tuple(own))
        for codes, own in ((tasks, names), (renamed, [*names, *more]))
    ]
    sums = np.zeros(len(budgets))
    for seed in seeds:
        first, second = (tasks[rank("task_diversity", pool, seed=seed, depth=max(budgets))] for pool in pools)
        for place, budget_n in enumerate(budgets):
            counts = [np.bincount(order[:budget_n], minlength=len(names)) for order in (first, second)]
            sums[place] += total_variation(*counts)
    means: list[float] = (sums / len(seeds)).tolist()
    return means
