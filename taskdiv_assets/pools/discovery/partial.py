"""Tasks for a pool that is labelled in part: the labelled prompts vote on the tasks of the others (see `label_votes`).

With `missing: discovered`, prompts on which the votes are divided form found tasks of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from taskdiv_assets.experiment.pool_settings import DISCOVERED, TaskLabels
from taskdiv_assets.pools import labels, side_files
from taskdiv_assets.pools.discovery import growth, label_votes, labelling
from taskdiv_assets.pools.discovery.frozen_tasks import Fixed
from taskdiv_assets.pools.discovery.labelling import Labelled
from taskdiv_assets.pools.discovery.vector_views import Vectors
from taskdiv_assets.pools.labels import How
from taskdiv_assets.pools.side_files import SideFile
from taskdiv_assets.storage.store import Store

NOTE = "missing_tasks"  # key in the footer of task_labels
FILE_NOTE = "vote_file"  # key in the footer of task_labels: the file with the confidence of each voted task
SURE_MIN = 0.5  # with `missing: discovered`, prompts with a lower confidence form found tasks
SCHEMA = pa.schema([pa.field("prompt_id", pa.string(), nullable=False), pa.field("confidence", pa.float64())])


def serialised(votes: pa.Table) -> SideFile:
    """Return the confidence of each voted task as a file for the store. The note `FILE_NOTE` contains its path."""
    return side_files.serialised(votes, "task_votes")


def confidences(store: Store) -> dict[str, float]:
    """Return the confidence of each voted task in the stored task_labels, by prompt id. For errors, see `side_files.read`."""
    table = side_files.read(store, FILE_NOTE, SCHEMA, "holds the confidence of voted tasks", "task_labels")
    return dict(zip(table["prompt_id"].to_pylist(), table["confidence"].to_pylist(), strict=True))


def completed(
    pool: pa.Table,
    given: pa.Table,
    settings: TaskLabels,
    budget_n: int,
    log: Callable[[str], None],
    vectors: Sequence[Vectors] = (),  # (n, d) each, by which tasks are found; row i belongs to row i of the pool
) -> Labelled:
    """Give every prompt a task. `given` is a table task_labels in which `how` is "none" for a prompt without a task.

    Raise ValueError if no prompt has a task.
    """
    by_id = {row["prompt_id"]: row for row in given.to_pylist()}
    rows = [by_id[one] for one in pool["prompt_id"].to_pylist()]
    tasks: list[str | None] = [None if row["how"] == "none" else row["task"] for row in rows]
    how: list[How] = [row["how"] for row in rows]
    missing = [i for i, task in enumerate(tasks) if task is None]
    if len(missing) == len(tasks):
        raise ValueError(
            f"`task_labels`: `missing: {settings.missing}` needs prompts with a task, and none of the {len(tasks):,} prompts has "
            "one; check the column of tasks, or use `{from: discovered}`, which groups prompts of similar wording"
        )
    log(f"{len(tasks) - len(missing):,} labelled prompts vote on the tasks of {len(missing):,} others")
    votes = label_votes.voted(pool["prompt"].to_pylist(), pool["prompt_id"].to_pylist(), tasks)
    divided = [i for i in missing if settings.missing == DISCOVERED and votes.confidence[i] < SURE_MIN]
    for i in missing:
        tasks[i], how[i] = votes.tasks[i], "nearest"
    notes, again = dict[str, Any](), None
    if divided:
        known = sorted({task for task in tasks if task is not None})
        part, some = pool.take(divided), [one[divided] for one in vectors]
        added = labelling.by_texts(part, _finding(settings), budget_n, log, known, some)
        names = dict(zip(added.table["prompt_id"].to_pylist(), added.table["task"].to_pylist(), strict=True))
        for i in divided:
            tasks[i], how[i] = names[pool["prompt_id"][i].as_py()], "discovered"
        notes[labelling.NOTE], again = added.notes[labelling.NOTE], added.again
    nearest = [i for i in missing if how[i] == "nearest"]
    confidence = votes.confidence[nearest]
    notes[NOTE] = {
        "labelled_n": len(tasks) - len(missing),
        "assigned_n": len(nearest),
        "found_n": len(divided),
        "mean_confidence": round(float(confidence.mean()), 4) if nearest else None,
        "accuracy": None if votes.accuracy is None else round(votes.accuracy, 4),
        "judged_n": votes.judged_n,
    }
    table = labels.labelled(pool, [str(task) for task in tasks], how)
    ids = pool["prompt_id"].take(pa.array(nearest, pa.int64())).combine_chunks()
    told = pa.Table.from_arrays([ids, pa.array(confidence, pa.float64())], schema=SCHEMA).sort_by("prompt_id")
    return Labelled(table, {"tasks_n": len(table["task"].unique()), **notes}, again, told)


def grown(pool: pa.Table, given: pa.Table, fixed: Fixed, settings: TaskLabels, log: Callable[[str], None]) -> Labelled:
    """Give every prompt a task, as `completed` does, but old prompts without a given task keep their fixed tasks.

    Old prompts vote, too, so a new prompt may get a task that was found before. No tasks are found.
    """
    old = {row["prompt_id"]: row for row in fixed.table.to_pylist()}
    rows = [old.get(row["prompt_id"], row) if row["how"] == "none" else row for row in given.to_pylist()]
    tasks, how = [row["task"] for row in rows], [row["how"] for row in rows]
    kept = labels.labelled(given, tasks, how)
    done = completed(pool, kept, settings.model_copy(update={"missing": "nearest", "tasks": None}), 0, log)
    found = fixed.notes.get(labelling.NOTE)
    return (
        done
        if found is None
        else done._replace(notes={**done.notes, labelling.NOTE: growth.recounted(found, done.table)})
    )


def _finding(settings: TaskLabels) -> TaskLabels:
    """Return settings that find tasks among all prompts of a pool, in the same view and number as `settings`."""
    return TaskLabels.model_validate({"from": DISCOVERED, "tasks": settings.tasks, "view": settings.view})


def stated(notes: Mapping[str, Any]) -> str:
    """Return sentences about the voted tasks, given the notes of task_labels; "" if no prompt lacked a task."""
    told = notes.get(NOTE)
    if not told or not told["assigned_n"] + told["found_n"]:
        return ""
    sure = "" if told["mean_confidence"] is None else f", with a mean confidence of {told['mean_confidence']:.2f}"
    found = f"; {told['found_n']:,} on which the votes were divided form found tasks" if told["found_n"] else ""
    right = (
        f" The votes on {told['judged_n']:,} labelled prompts, each by the others, are right for {told['accuracy']:.0%}."
        if told["accuracy"] is not None
        else ""
    )
    return f"{told['labelled_n']:,} labelled prompts voted on the tasks of {told['assigned_n']:,} others{sure}{found}.{right}"
