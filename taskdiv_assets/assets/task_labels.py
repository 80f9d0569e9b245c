"""Asset `task_labels`: the task of every prompt."""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from taskdiv_assets.annotating import ledger
from taskdiv_assets.experiment.view_settings import VECTOR_ASSETS
from taskdiv_assets.graph import fixed_tasks, markdown
from taskdiv_assets.graph.asset import Asset, Needs, Settings
from taskdiv_assets.graph.drawings import Spot, bars, counted, spots
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.stored_values import pool_ids
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.pools import copies, held_items, labels, levels
from taskdiv_assets.pools.discovery import found_tasks, frozen_tasks, growth, label_votes, labelling, partial, validity
from taskdiv_assets.pools.discovery.frozen_tasks import Fixed
from taskdiv_assets.pools.discovery.labelling import Labelled
from taskdiv_assets.services.view_vectors import add_views, read_by_labels, vectors_of

LISTED_N = 100  # found tasks in the table of the UI


def make_task_labels(work: Work) -> Product:
    experiment = work.experiment
    if experiment.labels_from != experiment.given_labels or experiment.task_labels.missing is not None:
        return _from_texts(work)
    pool = work.read("raw_pool")
    table = given(work.lineage, pool)
    if experiment.labels_from == "column":
        labels.refuse_unlabelled(table, experiment.by_task)
    notes = {"tasks_n": len(table["task"].unique()), **work.lineage.sources.noted("task_labels")}
    if experiment.task_labels.level is not None:
        notes["level"] = {
            "column": experiment.task_labels.level,
            "tasks_n": len(pool["source_task"].drop_null().unique()),
        }
    return Product(table, notes, parameters=_told({}))


def given(lineage: Lineage, pool: pa.Table) -> pa.Table:
    """Return task_labels as the task column or the mapping file gives them."""
    experiment, store = lineage.experiment, lineage.store
    left_out = copies.read(store)["copy_id"].to_pylist() + held_items.read(store)["prompt_id"].to_pylist()
    if experiment.task_labels.level is not None:
        pool = levels.as_tasks(pool, levels.read(store))
    return labels.of_source(experiment.given_labels, experiment.task_labels, pool, left_out)


def by_texts(lineage: Lineage, pool: pa.Table, budget_n: int, log: Callable[[str], None]) -> Labelled:
    """Label a pool by rules, found tasks and votes, as if no tasks were fixed. `budget_n` may determine the number of tasks."""
    experiment, settings = lineage.experiment, lineage.experiment.task_labels
    if settings.missing is None:
        found = labelling.by_texts(pool, settings, budget_n, log, vectors=vectors_of(lineage, pool))
    else:
        vectors = vectors_of(lineage, pool)
        found = partial.completed(pool, given(lineage, pool), settings, budget_n, log, vectors)
    return found._replace(notes=validity.noted(found, pool, experiment.budgets, experiment.selection_seeds))


def _grown(lineage: Lineage, pool: pa.Table, fixed: Fixed, log: Callable[[str], None]) -> Labelled:
    settings, budget_n = lineage.experiment.task_labels, _budget_of_rule(lineage)
    if settings.missing is None:
        return growth.grown(pool, fixed, settings, budget_n, log, vectors_of(lineage, pool))
    before = partial.confidences(lineage.store, fixed.notes)
    return partial.grown(pool, given(lineage, pool), fixed, settings, log, before)


def _from_texts(work: Work) -> Product:
    """Label the prompts by rules and found tasks.

    Stored labels with the same identity are kept: with another version of a numeric library, other tasks might be found. Tasks
    for which annotations were bought are fixed: the old prompts keep them, and new prompts join the nearest one.
    """
    pool = work.read("raw_pool")
    files: dict[str, bytes] = {}
    if work.lineage.is_fresh(work.unit):
        stored = work.store.read_table("task_labels")
        table = stored.table.replace_schema_metadata(None)
        # A table of an earlier version lacks this note. It is fresh, so today's settings are those that it was made with.
        notes = {**stored.footer.notes, fixed_tasks.SETTINGS: _settled(work.lineage)}
    else:
        lineage, fixed = work.lineage, fixed_tasks.fixed(work.lineage)
        found = (
            by_texts(lineage, pool, _budget_of_rule(lineage), work.log)
            if fixed is None
            else _grown(lineage, pool, fixed, work.log)
        )
        notes = {**found.notes, fixed_tasks.SETTINGS: _settled(lineage), **lineage.sources.noted("task_labels")}
        table = found.table
        if found.votes is not None:
            file = partial.serialised(found.votes)
            notes[partial.FILE_NOTE], files = file.path, {file.path: file.content}
    return Product(table, notes, files=files, parameters=_told(notes))


def _told(notes: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the parameters of the contract that come from the notes."""
    votes = notes.get(partial.NOTE)
    return {"agreement": labelling.agreement_of(notes), "vote_confidence": votes["mean_confidence"] if votes else None}


def _settled(lineage: Lineage) -> Settings:
    """Return the settings in the identity of task_labels."""
    prompts = lineage.fresh(Unit("raw_pool")).parts["prompts"]
    return fixed_tasks.settled(lineage, label_settings(lineage, _budget_of_rule(lineage)), prompts)


def _budget_of_rule(lineage: Lineage) -> int:
    """Return the budget that determines the number of tasks to look for.

    This is the smallest budget of the experiment at the time when the tasks of this pool were first found. So a later change of
    the budgets does not change the tasks.
    """
    footer = lineage.footer(Unit("task_labels"))
    kept = (footer.notes.get(labelling.NOTE) or {}).get("budget_n") if footer else None
    prompts = lineage.fresh(Unit("raw_pool")).parts["prompts"]
    if footer is not None and kept is not None and footer.inputs.get("raw_pool.prompts") == prompts:
        return int(kept)
    return min(lineage.experiment.budgets)


def picture_task_labels(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    counts = counted(table["task"])
    found = (notes.get(labelling.NOTE) or {}).get("tasks", [])
    if len(found) > 1:
        places = [Spot(one["task"], one["place"][0], one["place"][1], one["prompts_n"]) for one in found]
        return spots(places, f"{len(found):,} found tasks by similarity; the area shows the number of prompts")
    return bars(list(counts), {"prompts": list(counts.values())}, f"prompts in the pool, {len(counts):,} tasks")


def summary_task_labels(notes: Mapping[str, Any]) -> str:
    """Return a sentence on the agreement of the found tasks, and a Markdown table of the largest found tasks.

    If no tasks were found, return only the number of tasks. Sentences on voted tasks are added.
    """
    from reports.found import found_curve

    found, votes = notes.get(labelling.NOTE), partial.stated(notes)
    if not found:
        level = notes.get("level")
        of = (
            f", the values of the column {markdown.text(level['column'])}, over {level['tasks_n']:,} finer ones"
            if level
            else ""
        )
        return f"{notes['tasks_n']:,} tasks{of}. {votes}".strip()
    agreement, tasks = found["agreement"], found["tasks"]
    rows = [
        (
            markdown.text(one["task"]),
            f"{one['prompts_n']:,}",
            markdown.text(", ".join(one["terms"])),
            " · ".join(markdown.text(central["prompt"]) for central in one["central"]),
        )
        for one in tasks[:LISTED_N]
    ]
    joined, curve = growth.joined_sentence(found), "".join(f"\n\n{line}" for line in found_curve.lines(found))
    more = f"\n\nand {len(tasks) - LISTED_N:,} smaller tasks: `taskdiv tasks show`" if len(tasks) > LISTED_N else ""
    first = f"{votes} " if votes else ""
    return (
        f"{first}{len(tasks):,} tasks were found ({found['tasks_n']:,} were looked for). Agreement between two seeds "
        f"{agreement['between_seeds']:.2f}, between two halves of the pool {agreement['between_halves']:.2f} (adjusted Rand "
        f"index). Under another seed, {agreement['moved_share']:.0%} of the prompts would change their task.{joined}{curve}\n\n"
        f"{markdown.table(('task', 'prompts', 'terms', 'central prompts'), rows)}{more}"
    )


def label_parameters(work: Work) -> dict[str, Any]:
    footer = work.lineage.footer(work.unit)
    told = _told(footer.notes if footer else {})
    return {**pool_ids(work), "smallest_budget": min(work.experiment.budgets), **told}


def label_settings(lineage: Lineage, budget_n: int) -> Settings:
    """Return the settings of the experiment file that determine the tasks. `budget_n` may determine their number."""
    labels = lineage.experiment.task_labels
    named: dict[str, object] = {
        name: value
        for name, value in (("key", labels.key), ("task", labels.task), ("level", labels.level))
        if value is not None
    }
    if labels.missing is not None:
        named |= {"missing": labels.missing, "votes": label_votes.VERSION}
    if labels.rules is not None:
        named |= {"rules": [rule.model_dump() for rule in labels.rules], "rest": labels.rest}
    if labels.finds_tasks:
        named |= {"view": labels.view_name, "discovery": found_tasks.VERSION, "tasks": labels.tasks}
        if labels.tasks is None:
            named["tasks_for_budget"] = budget_n
    return {"from": lineage.experiment.labels_from, **named}


def task_labels_recipe(inputs: Inputs) -> Settings:
    labels = inputs.experiment.task_labels
    inputs.part("raw_pool", "prompts")
    inputs.add(inputs.lineage.sources.task_labels())
    if labels.level is not None:
        inputs.part("raw_pool", "levels")
    if labels.key is not None:  # the values of the key column may be the user's ids
        pool = inputs.lineage.fresh(Unit("raw_pool"))
        inputs.add({"raw_pool.ids": pool.parts.get("ids", pool.identity)})
    add_views(inputs)
    return _settled(inputs.lineage)


def prepare_task_labels(work: Work) -> bool:
    """Fix the stored found tasks if a list was exported with them by a version that did not fix tasks. Return True if so."""
    if not work.experiment.task_labels.guesses_tasks or frozen_tasks.newest(work.store) is not None:
        return False
    sent = {str(row["prompt_id"]): row["task"] for entry in ledger.entries(work.store) for row in entry.rows}
    if not sent or work.lineage.footer(work.unit) is None:
        return False
    stored = work.store.read_table("task_labels", columns=["prompt_id", "task"]).table
    is_sent = any(sent.get(row["prompt_id"]) == row["task"] for row in stored.to_pylist())
    return is_sent and fixed_tasks.fix(work.store)


ASSET = Asset(
    name="task_labels",
    make=make_task_labels,
    reads=("raw_pool", *VECTOR_ASSETS.values()),
    recipe=task_labels_recipe,
    reads_of=read_by_labels,
    description="The task of every prompt, and how it was found.",
    needs=Needs(1, 8, 0, "one column beside the pool"),
    parameters=label_parameters,
    picture=picture_task_labels,
    summary=summary_task_labels,
    prepare=prepare_task_labels,
)
