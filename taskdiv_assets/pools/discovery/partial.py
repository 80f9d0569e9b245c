"""Tasks for a pool that is labelled in part: the labelled prompts vote on the tasks of the others (see `label_votes`).

With `missing: discovered`, prompts on which the votes are divided form found tasks of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
_VOTED: frozenset[How] = frozenset({"nearest", "discovered"})  # `how` of tasks that nobody gave
SCHEMA = pa.schema([pa.field("prompt_id", pa.string(), nullable=False), pa.field("confidence", pa.float64())])


def serialised(votes: pa.Table) -> SideFile:
    """Return the confidence of each voted task as a file for the store. The note `FILE_NOTE` contains its path."""
    return side_files.serialised(votes, "task_votes")


def confidences(store: Store, notes: Mapping[str, Any]) -> dict[str, float]:
    """Return the confidence of each voted task, by prompt id, given the notes of task_labels; {} if the notes name no file.

    For errors, see `side_files.read_at`.
    """
    if not notes.get(FILE_NOTE):
        return {}
    table = side_files.read_at(
        store, str(notes[FILE_NOTE]), SCHEMA, "holds the confidence of voted tasks", "task_labels"
    )
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

    Prompts whose `how` is in `_VOTED` got their task before. They vote, too, but are not counted as labelled.

    Raise ValueError if no prompt has a task, or if `settings` look for divided votes where no votes can be divided.
    """
    by_id = {row["prompt_id"]: row for row in given.to_pylist()}
    rows = [by_id[one] for one in pool["prompt_id"].to_pylist()]
    tasks: list[str | None] = [None if row["how"] == "none" else row["task"] for row in rows]
    how: list[How] = [row["how"] for row in rows]
    missing = [i for i, task in enumerate(tasks) if task is None]
    _check(tasks, settings)
    log(f"{len(tasks) - len(missing):,} prompts with a task vote on the tasks of {len(missing):,} others")
    is_given = [one not in _VOTED for one in how]
    votes = label_votes.voted(pool["prompt"].to_pylist(), pool["prompt_id"].to_pylist(), tasks, is_given)
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
    confidence, labelled_n = votes.confidence[nearest], sum(is_given) - len(missing)
    notes[NOTE] = {
        "labelled_n": labelled_n,
        "kept_n": len(tasks) - len(missing) - labelled_n,
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


def grown(
    pool: pa.Table,
    given: pa.Table,
    fixed: Fixed,
    settings: TaskLabels,
    log: Callable[[str], None],
    before: Mapping[str, float],  # confidence of the voted tasks that are fixed, by prompt id; some may be unknown
) -> Labelled:
    """Give every prompt a task, as `completed` does, but old prompts without a given task keep their fixed tasks.

    Old prompts vote, too, so a new prompt may get a task that was found before. No tasks are found.
    """
    old = {row["prompt_id"]: row for row in fixed.table.to_pylist()}
    rows = [old.get(row["prompt_id"], row) if row["how"] == "none" else row for row in given.to_pylist()]
    kept = labels.labelled(given, [row["task"] for row in rows], [row["how"] for row in rows])
    done = completed(pool, kept, settings.model_copy(update={"missing": "nearest", "tasks": None}), 0, log)
    notes, votes = _with_kept(done, before)
    found = fixed.notes.get(labelling.NOTE)
    if found is not None:
        notes[labelling.NOTE] = growth.recounted(found, done.table)
    return done._replace(notes=notes, votes=votes)


def _with_kept(done: Labelled, before: Mapping[str, float]) -> tuple[dict[str, Any], pa.Table]:
    """Return the notes and the confidences of a grown pool, in which prompts that keep a voted or found task are counted."""
    how = Counter(done.table["how"].to_pylist())
    voted = done.table.filter(pc.equal(done.table["how"].cast(pa.string()), "nearest"))["prompt_id"].to_pylist()
    new = SCHEMA.empty_table() if done.votes is None else done.votes
    sure = {**before, **dict(zip(new["prompt_id"].to_pylist(), new["confidence"].to_pylist(), strict=True))}
    known = {one: sure[one] for one in voted if one in sure}
    mean = round(sum(known.values()) / len(known), 4) if known else None
    counts = {"assigned_n": how["nearest"], "found_n": how["discovered"], "mean_confidence": mean}
    votes = pa.table([[*known], [*known.values()]], schema=SCHEMA)
    return {**done.notes, NOTE: {**done.notes[NOTE], **counts}}, votes


def _check(tasks: Sequence[str | None], settings: TaskLabels) -> None:
    """Raise ValueError if no prompt has a task, or if so few tasks are named that no vote can be divided."""
    named = {task for task in tasks if task is not None}
    if not named:
        raise ValueError(
            f"`task_labels`: `missing: {settings.missing}` needs prompts with a task, and none of the {len(tasks):,} prompts has "
            "one; check the column of tasks, or use `{from: discovered}`, which groups prompts of similar wording"
        )
    least = -(-label_votes.NEIGHBOURS_N // len(named)) / label_votes.NEIGHBOURS_N  # share of the winner
    if settings.missing == DISCOVERED and least >= SURE_MIN:
        raise ValueError(
            "`task_labels`: `missing: discovered` finds tasks where the votes are divided, but the labels name only "
            f"{len(named)} {'task' if len(named) == 1 else 'tasks'}, so one always gets {least:.0%} of the votes or more; label "
            "prompts of more tasks, use `missing: nearest`, or use `{from: discovered}`, which groups all prompts"
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
    kept_n = told.get("kept_n", 0)
    kept = f" The tasks of {kept_n:,} of them are fixed since annotations were bought." if kept_n else ""
    voted = f"{told['labelled_n']:,} labelled prompts voted on the tasks of {told['assigned_n']:,} others"
    return f"{voted}{sure}{found}.{kept}{right}"
