"""The `taskdiv tasks` commands. They show the tasks of a pool, export the task of each prompt for editing, and find new tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.markup import escape

from data_contracts.footer import Footer
from data_contracts.spreadsheet_cells import csv_bytes
from taskdiv_assets.annotating import new_tasks
from taskdiv_assets.annotating.delivery import check_target, write_whole
from taskdiv_assets.annotating.formats import id_cell, own_id_cell
from taskdiv_assets.annotating.layout import OWN_ID
from taskdiv_assets.annotating.layout import folded as folded_name
from taskdiv_assets.annotating.lists import layout_of
from taskdiv_assets.annotating.new_tasks import Moves
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.task_labels import by_texts, label_settings
from taskdiv_assets.commands.consoles import folded, is_interactive, near, note, out, plain_errors, say, visible
from taskdiv_assets.commands.opening import EXPERIMENT, open_experiment
from taskdiv_assets.commands.task_lines import CENTRAL_N, lines_of
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph import fixed_tasks
from taskdiv_assets.graph.drawings import counted
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import held_items
from taskdiv_assets.pools.discovery import growth
from taskdiv_assets.pools.discovery import partial as votes
from taskdiv_assets.pools.discovery.labelling import NOTE
from taskdiv_assets.storage.store import Store

tasks_app = typer.Typer(help="Show the tasks of a pool, and export them for editing.", no_args_is_help=True)
POOL_COLUMNS = ("prompt_id", "source_id", "prompt")
OUT = Annotated[Path, typer.Option("--output", "--out", "-o", metavar="FILE.csv", help="File to write.")]


@tasks_app.command("show")
def tasks_show(experiment: EXPERIMENT) -> None:
    """List the tasks, the largest first, with their numbers of prompts. Found tasks also have terms and central prompts.

    Example: taskdiv tasks show questions
    """
    with plain_errors():
        chosen = open_experiment(experiment, is_kept=False)
        table, footer = _stored(chosen)
        found = footer.notes.get(NOTE)
        by_name = {one["task"]: one for one in found["tasks"]} if found else {}
        below = _finer(chosen, table)
        shown = folded("task", "prompts", *(("finer tasks",) if below else ()))
        for task, prompts_n in counted(table["task"]).items():
            if found:
                say(*lines_of(task, prompts_n, by_name.get(task), out.width, below.get(task)))
                continue
            finer = (f"{below.get(task, 0):,}",) if below else ()
            shown.add_row(*map(escape, (_line(task), f"{prompts_n:,}", *finer)))
        if not found:
            out.print(shown)
        for line in [*(_summary(found) if found else ()), votes.stated(footer.notes), *_fixed(chosen, footer)]:
            say(*([line] if line else []))
        if found:
            say(
                f"a found task is shown with its terms and {CENTRAL_N} central prompts; all prompts: "
                f"taskdiv tasks export {experiment} --out tasks.csv"
            )


@tasks_app.command("export")
def tasks_export(experiment: EXPERIMENT, output: OUT) -> None:
    """Write a mapping file with the task of each prompt. Rename, merge or split tasks there, and use it as `from: mapping`.

    If your file has a column of ids (`columns: {id: …}`), the mapping file has it too, and can be joined with yours.
    If labelled prompts voted on the tasks of others, the column `confidence` holds the share of the votes for the task.

    Example: taskdiv tasks export questions --out tasks.csv
    """
    with plain_errors():
        chosen = open_experiment(experiment, is_kept=False)
        table, footer = _stored(chosen)
        target = output.expanduser().absolute()
        check_target(target)
        store = Store(chosen.name)
        write_whole(target, _mapping_file(chosen, table, footer))
        say(f"wrote {near(target)}: {table.num_rows:,} prompts in {len(table['task'].unique()):,} tasks")
        if held_n := held_items.read(store).num_rows:
            note(f"note: {held_n:,} held-out prompts are not in the file, and stay held out when it is used")
        note(*(f"note: {line}" for line in _fixed(chosen, footer)))
        say(f"edit its column `task`, then: task_labels: {{from: mapping, path: {output.name}}}")


@tasks_app.command("find-anew")
def tasks_find_anew(
    experiment: EXPERIMENT, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Find the tasks of a pool again, although annotations were bought. First say how many bought labels would move.

    Found tasks are fixed once annotations were exported or imported: a grown pool keeps them. The next run uses the new tasks.

    Example: taskdiv tasks find-anew questions
    """
    with plain_errors():
        chosen = open_experiment(experiment, is_kept=False)
        store, budget_n = Store(chosen.name), min(chosen.budgets)
        lineage = REGISTRY.look(chosen, store)
        label = partial(by_texts, lineage, budget_n=budget_n, log=lambda line: note(f"{line} …"))
        new = new_tasks.find(lineage, label_settings(lineage, budget_n), label)
        if not new.is_change:
            say("the same tasks would be found; nothing was changed")
            return
        say(_moves(new.moves))
        if not yes:
            if not is_interactive():
                raise ValueError("nothing was changed: there is no terminal to ask on; to use the new tasks, add --yes")
            typer.confirm("Use the new tasks?", default=False, abort=True, err=True)
        new_tasks.replace(store, new)
        say(f"the new tasks are fixed; `taskdiv run {experiment}` makes the lists with them. Bought labels are kept.")


def _moves(moves: Moves) -> str:
    return (
        f"{moves.bought_moved_n:,} of {moves.bought_n:,} bought labels would move to another task, and {moves.moved_n:,} of the "
        f"{moves.prompts_n:,} prompts with a fixed task; {moves.new_n:,} tasks would replace {moves.old_n:,} (old and new tasks "
        "are matched one to one so that few prompts move)"
    )


def _fixed(experiment: Experiment, footer: Footer) -> Iterator[str]:
    """Yield sentences about fixed tasks, if `footer` belongs to a table of found or voted tasks that are fixed."""
    found = footer.notes.get(NOTE, {})
    is_fixed = fixed_tasks.in_force(REGISTRY.look(experiment, Store(experiment.name))) is not None
    if not is_fixed or not (found or votes.NOTE in footer.notes):
        return
    if said := growth.joined_sentence(found).strip():
        yield said
    yield (
        "the tasks are fixed, because annotations were bought: new prompts join the nearest task; `taskdiv tasks find-anew "
        f"{experiment.name}` finds others"
    )


def _stored(experiment: Experiment) -> tuple[pa.Table, Footer]:
    """Return the table `task_labels` and its footer. Print a note if it is not fresh; raise ValueError if it is not stored."""
    store = Store(experiment.name)
    lineage = REGISTRY.look(experiment, store)
    if lineage.footer(Unit("task_labels")) is None:
        raise ValueError(
            f"the prompts of {experiment.name} have no tasks yet; run `taskdiv run {experiment.name} --until task_labels` first"
        )
    state = lineage.state(Unit("task_labels"))
    if state.status != "fresh":
        note(f"note: {state.reason}; `taskdiv run {experiment.name}` makes them again")
    stored = store.read_table("task_labels")
    return stored.table, stored.footer


def _finer(experiment: Experiment, table: pa.Table) -> dict[str, int]:
    """Return, for each task, the number of distinct source tasks of its prompts. Return {} if `level` is not set.

    A task is here a value of the column `level`.
    """
    if experiment.task_labels.level is None:
        return {}
    pool = Store(experiment.name).read_table("raw_pool", columns=["prompt_id", "source_task"]).table
    both = table.select(["prompt_id", "task"]).join(pool, "prompt_id").group_by("task")
    return {
        row["task"]: row["source_task_count_distinct"]
        for row in both.aggregate([("source_task", "count_distinct")]).to_pylist()
    }


def _mapping_file(experiment: Experiment, table: pa.Table, footer: Footer) -> bytes:
    """Return the CSV of `taskdiv tasks export`, sorted by task and prompt_id. `table` and `footer` are those of task_labels."""
    store = Store(experiment.name)
    pool = store.read_table("raw_pool", columns=POOL_COLUMNS).table
    pool = pool.take(pc.index_in(table["prompt_id"], pool["prompt_id"].combine_chunks()))
    sure = votes.confidences(store, footer.notes) if votes.FILE_NOTE in footer.notes else None
    own_id = layout_of(experiment, store).own_id
    own_id = OWN_ID if own_id is not None and folded_name(own_id) in ("confidence", "source_task") else own_id
    with_own, with_sure = own_id is not None, sure is not None
    columns = (own_id or "", "prompt_id", "task", "confidence", "prompt")
    has = (with_own, True, True, with_sure, True)
    rows = sorted(zip(table["task"].to_pylist(), *(pool[name].to_pylist() for name in POOL_COLUMNS), strict=True))
    cells = (
        (own_id_cell(own or ""), id_cell(prompt_id), task, _number((sure or {}).get(prompt_id)), prompt)
        for task, prompt_id, own, prompt in rows
    )
    return csv_bytes([*compress(columns, has)], (tuple(compress(row, has)) for row in cells))


def _number(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.2f}"


def _summary(found: Mapping[str, Any]) -> Iterator[str]:
    from reports.found import found_curve

    agreement = found["agreement"]
    yield (
        f"found: {len(found['tasks']):,} tasks by their {found['view']}; under another seed, {agreement['moved_share']:.0%} of "
        "the prompts would change their task"
    )
    yield (
        f"agreement (adjusted Rand index, 1 is the best): {agreement['between_seeds']:.2f} between two seeds, "
        f"{agreement['between_halves']:.2f} between two halves of the pool"
    )
    yield from found_curve.lines(found)


def _line(text: str) -> str:
    return visible(" ".join(text.split()), is_one_line=True)
