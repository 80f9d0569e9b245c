"""Send a list out: the prompts of one cell that need an answer and were not sent out yet, noted in the ledger.

In: a cell's `annotation_batch` and the ledger. Out: the user's file and a ledger entry, both or neither (`delivery`). One
export at a time: two at once would send prompts twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.annotating import delivery, label_studio, ledger
from taskdiv_assets.annotating.formats import ENDINGS, render
from taskdiv_assets.annotating.ledger import Entry, Row
from taskdiv_assets.cells import Cell
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.ledger import listed, sent
from taskdiv_assets.lineage import Lineage
from taskdiv_assets.locks import hold
from taskdiv_assets.models import StaleInputError
from taskdiv_assets.store import Store
from taskdiv_assets.units import Unit

LOCK = "annotations-export"  # imports take it too


class Target(NamedTuple):
    """Where a list goes, and how it looks there."""

    path: Path
    format: str

    @property
    def config_path(self) -> Path | None:
        """Where Label Studio's labelling configuration goes; None for other formats."""
        return self.path.with_name(f"{self.path.stem}.config.xml") if self.format == "label-studio" else None


class Export(NamedTuple):
    """What went out of a list: prompts now, prompts that are out already, prompts that have their answer.

    `finished` are the files of interrupted exports that got their names.
    """

    rows_n: int
    out_n: int
    answered_n: int
    finished: list[Path]


def check_format(file_format: str) -> None:
    """Refuse a format that there is not.

    Raises:
        ValueError: with those that there are.
    """
    if file_format not in ENDINGS:
        raise ValueError(f"unknown format {file_format!r}; expected one of {', '.join(ENDINGS)}")


def export(
    experiment: Experiment,
    store: Store,
    cell: Cell,
    seed: int | None,
    target: Target,
    *,
    on_wait: Callable[[str], None] | None = None,
) -> Export:
    """Write the prompts of one cell that need an answer and were not sent out yet, and note them in the ledger.

    The entry also names the prompts of the list that went out before, with whatever list. Where nothing is left to send, no
    file is written, and there is an entry only if it says of a prompt for the first time that it belongs to this list.
    Files of exports that were interrupted get their names first.

    Args:
        experiment: whose prompts go out.
        store: of this experiment.
        cell: the budget and the strategy.
        seed: of the selection; a campaign has one and needs none.
        target: an absolute path, and one of `ENDINGS`.
        on_wait: told who is exporting, when there is somebody to wait for.

    Raises:
        ValueError: a study without a seed, a seed that the cell does not have, or the file cannot be written.
        StaleInputError: the cell's batch is missing or out of date.
    """
    with hold(store, LOCK, on_wait=on_wait):
        chosen = _seed(experiment, store, cell, seed)
        entries = ledger.entries(store)
        finished = delivery.unfinished(entries)
        for path in finished:
            delivery.finish(path)
        went_out = ledger.sent_prompt_ids(entries)
        list_ids = [str(row["prompt_id"]) for row in _of_seed(store, "allocation", cell, chosen)]
        to_answer = _of_seed(store, "annotation_batch", cell, chosen)
        rows = [_row(row, experiment) for row in to_answer if row["prompt_id"] not in went_out]
        before = tuple(prompt_id for prompt_id in list_ids if prompt_id in went_out)
        time = ledger.next_time(entries, datetime.now(UTC))
        entry = Entry(cell.key, chosen, time, tuple(row["prompt_id"] for row in rows), already_sent_ids=before)
        if rows:
            _deliver(store, entry, rows, target)
        elif {(chosen, prompt_id) for prompt_id in before} - listed(map(sent, entries), cell, [chosen]):
            ledger.note(store, entry)
    return Export(len(rows), len(to_answer) - len(rows), len(list_ids) - len(to_answer), finished)


def rewrite(store: Store, number: int, output: Path | None, file_format: str | None) -> tuple[Target, int]:
    """Write the file of an earlier export again, from the ledger, which stays as it is.

    Args:
        store: of the experiment.
        number: of the export, from 1, as `taskdiv annotations list` shows it.
        output: where to; None for where it went, with the ending of another format where one is given.
        file_format: one of `ENDINGS`; None for the one it had.

    Returns: where it stands, and how many prompts it holds.

    Raises:
        ValueError: there is no such export, its rows were not kept, or another file is in the way.
    """
    entries = ledger.entries(store)
    if not 1 <= number <= len(entries):
        raise ValueError(f"there is no export {number} of {store.experiment}; the ledger has {len(entries)}, from 1 on")
    entry = entries[number - 1]
    if not entry.prompt_ids:
        raise ValueError(
            f"export {number} of {store.experiment} sent nothing: all {len(entry.already_sent_ids)} prompts of its list "
            "had gone out before, so there is no file to write again"
        )
    if not entry.rows or entry.file is None or entry.format is None:
        raise ValueError(
            f"export {number} of {store.experiment} was made by an earlier version, which kept ids only; "
            f"its {len(entry.prompt_ids)} prompt_ids stand in {store.locate('exports', f'{entry.name}.json')}"
        )
    chosen = file_format or entry.format
    path = Path(entry.file)
    target = Target(output or (path if chosen == entry.format else path.with_suffix(f".{ENDINGS[chosen]}")), chosen)
    data = render(entry.rows, chosen)
    with hold(store, LOCK):
        delivery.check_target(target.path, data)
        _write_config(target)
        delivery.write_whole(target.path, data)
    return target, len(entry.rows)


def _seed(experiment: Experiment, store: Store, cell: Cell, seed: int | None) -> int:
    lineage = Lineage(experiment, store)
    state = lineage.state(Unit("annotation_batch", cell.key))
    if state.status != "fresh":
        lists = f"`taskdiv run {experiment.name} --until annotation_batch` makes the lists and trains nothing"
        raise StaleInputError(f"{state.reason}; {lists}")
    seeds = lineage.cell_selection_seeds(cell)
    if seed is None and len(seeds) > 1:
        raise ValueError(
            f"{experiment.name} is a study with one list per seed; choose one of them with --seed "
            f"({', '.join(map(str, seeds))}). A campaign has one list"
        )
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise ValueError(f"{cell.key} has no list for seed {chosen}; expected one of {', '.join(map(str, seeds))}")
    return chosen


def _of_seed(store: Store, asset: str, cell: Cell, seed: int) -> list[dict[str, object]]:
    """Rows of a cell's table that belong to one selection seed."""
    return [row for row in store.read_table(asset, cell.key).table.to_pylist() if row["selection_seed"] == seed]


def _row(row: dict[str, object], experiment: Experiment) -> Row:
    return Row(
        prompt_id=str(row["prompt_id"]),
        task=str(row["task"]),
        rank=int(str(row["rank"])),
        prompt=str(row["prompt"]),
        instructions=experiment.annotation.instructions,
    )


def _deliver(store: Store, entry: Entry, rows: list[Row], target: Target) -> None:
    """The three steps, in the order that `delivery` explains. The configuration names no prompt, so it may come first."""
    data = render(rows, target.format)
    delivery.check_target(target.path)
    _write_config(target)
    delivery.write_synced(delivery.part_of(target.path), data)
    digest = hashlib.sha256(data).hexdigest()
    whole = replace(entry, rows=tuple(rows), format=target.format, file=str(target.path), sha256=digest)
    ledger.note(store, whole)
    delivery.finish(target.path)


def _write_config(target: Target) -> None:
    if target.config_path is not None:
        config = label_studio.CONFIG.encode()
        delivery.check_target(target.config_path, config)
        delivery.write_whole(target.config_path, config)
