"""Tasks for prompts that come later. The old prompts keep their tasks.

A new prompt gets its task by a rule, or else the nearest of the old found tasks. The view is fitted on the old prompts alone, and
the centre of a task is the mean of its old prompts. So the task of a new prompt depends neither on the other new prompts nor on
the order of the rows. Without old found tasks, tasks are found among the new prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.experiment.view_settings import WORDS
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.discovery import labelling, task_rules
from taskdiv_assets.pools.discovery.clusters import nearest, sums_of
from taskdiv_assets.pools.discovery.found_tasks import FITTED_MAX, STREAM
from taskdiv_assets.pools.discovery.frozen_tasks import Fixed
from taskdiv_assets.pools.discovery.labelling import NOTE, Labelled
from taskdiv_assets.pools.discovery.vector_views import Vectors, rows_of_views
from taskdiv_assets.pools.labels import How
from taskdiv_assets.selection.streams import keyed_hash

JOINED = "joined_n"  # in the notes: prompts that got the nearest of the fixed tasks


def grown(
    pool: pa.Table,
    fixed: Fixed,
    settings: TaskLabels,
    budget_n: int,
    log: Callable[[str], None],
    vectors: Sequence[Vectors] = (),  # (n, d) each; row i belongs to row i of the pool
) -> Labelled:
    """Label a pool by fixed tasks. A prompt without one gets a task by the rules of `settings`, or the nearest found task.

    If no prompt of the pool has a fixed task that was found, tasks are found among the new prompts as in `labelling.by_texts`.
    Raise ValueError if no prompt of the pool has a fixed task.
    """
    is_old = pc.is_in(pool["prompt_id"], value_set=fixed.table["prompt_id"].combine_chunks())
    new = pool.filter(pc.invert(is_old))
    old = fixed.table.filter(pc.is_in(fixed.table["prompt_id"], value_set=pool["prompt_id"].combine_chunks()))
    if not old.num_rows and pool.num_rows:
        raise ValueError(
            f"none of the {pool.num_rows:,} prompts of the pool is among the {fixed.table.num_rows:,} prompts whose tasks are "
            "fixed since annotations were bought; check `pool`, or give the other pool an experiment with another `name:`"
        )
    log(f"{old.num_rows:,} prompts keep their tasks, which are fixed; {new.num_rows:,} new prompts join them")
    found = old.filter(pc.equal(old["how"].cast(pa.string()), "discovered"))
    if found.num_rows:
        added = _joined(pool, new, found, settings, vectors)
        joined_n = added["how"].to_pylist().count("discovered")
        found_note = recounted(fixed.notes[NOTE], pa.concat_tables([found, added]))
        notes: dict[str, Any] = {NOTE: {**found_note, JOINED: joined_n}}
    else:
        is_new = ~is_old.to_numpy(zero_copy_only=False)
        made = labelling.by_texts(new, settings, budget_n, log, vectors=[one[is_new] for one in vectors])
        added, notes = made.table, made.notes
    table = pa.concat_tables([part.cast(labels.SCHEMA) for part in (old, added)]).unify_dictionaries()
    return Labelled(table.sort_by("prompt_id"), {**notes, "tasks_n": len(table["task"].unique())})


def nearest_tasks(
    old: Sequence[tuple[str, str, str]],  # (prompt id, prompt, task)
    new: Sequence[str],  # prompts
    *,
    with_words: bool = True,  # whether the view `words` is used
    vectors: Sequence[Vectors] = (),  # of other views; the rows of `old`, then those of `new`
) -> list[str]:
    """Return for each new prompt the task of `old` whose centre is nearest in the views; the first by name on a tie."""
    from threadpoolctl import threadpool_limits

    if not new:
        return []
    numbers = np.array([int(prompt_id, 16) for prompt_id, _, _ in old], np.uint64)
    order = np.argsort(keyed_hash(0, STREAM, numbers), kind="stable")
    names, codes = np.unique([old[i][2] for i in order], return_inverse=True)
    with threadpool_limits(1):
        every = np.concatenate([order, np.arange(len(old), len(old) + len(new))])
        texts = [*(old[i][1] for i in order), *new]
        rows = rows_of_views(texts, every, min(len(old), FITTED_MAX), with_words=with_words, vectors=vectors)
        sizes = np.bincount(codes)
        centres = sums_of(rows[: len(old)], codes.astype(np.int64)) / sizes[:, None]
        return [str(names[code]) for code in nearest(rows[len(old) :], centres)]


def joined_sentence(found: Mapping[str, Any]) -> str:
    """Return a sentence about the prompts that joined fixed tasks, given the note on found tasks; "" if no prompt joined."""
    joined_n = found.get(JOINED, 0)
    said = (
        f" {joined_n:,} prompts came after annotations were bought, and joined the nearest of the tasks found before."
    )
    return said if joined_n else ""


def _joined(
    pool: pa.Table, new: pa.Table, found: pa.Table, settings: TaskLabels, vectors: Sequence[Vectors]
) -> pa.Table:
    """Label the new prompts by rules and, where no rule matches, with the nearest task of the rows `found`."""
    prompts, rules = new["prompt"].to_pylist(), settings.rules or ()
    matches = task_rules.matched(prompts, rules) if rules else [None] * len(prompts)
    place_of_old, place_of_new = (
        pc.index_in(one["prompt_id"], pool["prompt_id"].combine_chunks()).to_numpy() for one in (found, new)
    )
    texts = pool["prompt"].take(pa.array(place_of_old)).to_pylist()
    old = list(zip(found["prompt_id"].to_pylist(), texts, found["task"].to_pylist(), strict=True))
    rest = [i for i, match in enumerate(matches) if match is None]
    places = np.concatenate([place_of_old, place_of_new[rest]])
    nearest_of_rest = nearest_tasks(
        old,
        [prompts[i] for i in rest],
        with_words=WORDS in settings.views,
        vectors=[one[places] for one in vectors],
    )
    joined = dict(zip(rest, nearest_of_rest, strict=True))
    tasks = [joined[i] if match is None else rules[match].task for i, match in enumerate(matches)]
    how: list[How] = ["discovered" if match is None else "rules" for match in matches]
    return labels.labelled(new, tasks, how)


def recounted(found: Mapping[str, Any], table: pa.Table) -> dict[str, Any]:
    """Return the note on found tasks with the sizes in a table task_labels, the largest task first; without empty tasks."""
    counts = {one["values"]: one["counts"] for one in table["task"].value_counts().to_pylist()}
    tasks = [{**one, "prompts_n": counts[one["task"]]} for one in found["tasks"] if one["task"] in counts]
    return {**found, "tasks": sorted(tasks, key=lambda one: -one["prompts_n"])}
