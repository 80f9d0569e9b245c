"""The `taskdiv tasks` commands. They show the tasks of a pool, and export the task of each prompt for editing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.markup import escape

from data_contracts.footer import Footer
from taskdiv_assets.annotating.delivery import check_target, write_whole
from taskdiv_assets.annotating.formats import csv_bytes, id_cell
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.consoles import folded, near, note, out, plain_errors, say, visible
from taskdiv_assets.commands.opening import EXPERIMENT, open_experiment
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.drawings import counted
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import held_items
from taskdiv_assets.pools.discovery.labelling import NOTE
from taskdiv_assets.storage.store import Store

tasks_app = typer.Typer(help="Show the tasks of a pool, and export them for editing.", no_args_is_help=True)
SHOWN_LENGTH_MAX = 70  # characters of a central prompt in the table
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
        shown = folded("task", "prompts", *(("terms", "central prompts") if found else ()))
        for task, prompts_n in counted(table["task"]).items():
            shown.add_row(*map(escape, (_line(task), f"{prompts_n:,}", *(_about(by_name.get(task)) if found else ()))))
        out.print(shown)
        for line in _summary(found) if found else ():
            say(line)


@tasks_app.command("export")
def tasks_export(experiment: EXPERIMENT, output: OUT) -> None:
    """Write a mapping file with the task of each prompt. Rename, merge or split tasks there, and use it as `from: mapping`.

    Example: taskdiv tasks export questions --out tasks.csv
    """
    with plain_errors():
        chosen = open_experiment(experiment, is_kept=False)
        table, _ = _stored(chosen)
        target = output.expanduser().absolute()
        check_target(target)
        store = Store(chosen.name)
        pool = store.read_table("raw_pool", columns=["prompt_id", "prompt"]).table
        prompts = pool["prompt"].take(pc.index_in(table["prompt_id"], pool["prompt_id"].combine_chunks()))
        rows = sorted(zip(table["task"].to_pylist(), table["prompt_id"].to_pylist(), prompts.to_pylist(), strict=True))
        cells = ((id_cell(prompt_id), task, prompt) for task, prompt_id, prompt in rows)
        write_whole(target, csv_bytes(("prompt_id", "task", "prompt"), cells))
        say(f"wrote {near(target)}: {len(rows):,} prompts in {len(table['task'].unique()):,} tasks")
        if held_n := held_items.read(store).num_rows:
            note(f"note: {held_n:,} held-out prompts are not in the file, and stay held out when it is used")
        say(f"edit its column `task`, then: task_labels: {{from: mapping, path: {output.name}}}")


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


def _about(found: Mapping[str, Any] | None) -> tuple[str, str]:
    if found is None:  # a task that a rule gives
        return "", ""
    prompts = (_line(one["prompt"]) for one in found["central"])
    cut = (one if len(one) <= SHOWN_LENGTH_MAX else f"{one[:SHOWN_LENGTH_MAX]}…" for one in prompts)
    return _line(", ".join(found["terms"])), "\n".join(cut)


def _summary(found: Mapping[str, Any]) -> Iterator[str]:
    agreement = found["agreement"]
    yield (
        f"found: {len(found['tasks']):,} tasks by their {found['view']}; under another seed, {agreement['moved_share']:.0%} of "
        "the prompts would change their task"
    )
    yield (
        f"agreement (adjusted Rand index, 1 is the best): {agreement['between_seeds']:.2f} between two seeds, "
        f"{agreement['between_halves']:.2f} between two halves of the pool"
    )


def _line(text: str) -> str:
    return visible(" ".join(text.split()), is_one_line=True)
