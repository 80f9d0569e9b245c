"""Export of the prompts of lists, or of the held-out items, that need an answer and were not sent before.

If there are such prompts, an export writes the user's file and a ledger entry. The next export completes an interrupted export
(see `delivery`). A lock allows one export or import at a time, because two exports at the same time could send prompts twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.annotating import delivery, label_studio, ledger, lists
from taskdiv_assets.annotating.drafts import Drafts, with_drafts
from taskdiv_assets.annotating.formats import ENDINGS, render
from taskdiv_assets.annotating.layout import Layout, Row
from taskdiv_assets.annotating.ledger import Entry, listed, sent
from taskdiv_assets.annotating.lists import Seeds
from taskdiv_assets.graph import fixed_tasks
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.pools import copies
from taskdiv_assets.storage.locks import hold
from taskdiv_assets.storage.store import Store

LOCK = "annotations-export"  # an import takes this lock too


class Target(NamedTuple):
    """Path and format of an exported list."""

    path: Path
    format: str

    @property
    def config_path(self) -> Path | None:
        """Path of Label Studio's labelling configuration; None for other formats."""
        return self.path.with_name(f"{self.path.stem}.config.xml") if self.format == "label-studio" else None


class Export(NamedTuple):
    """Result of one export."""

    rows_n: int  # exported prompts, each counted once
    out_n: int  # prompts that were sent before and have no answer yet
    answered_n: int  # prompts that have an answer
    finished: list[Path]  # files of interrupted exports that this export completed
    lists_n: int = 1  # lists in the file
    repeats_n: int = 0  # rows that repeat the text of an earlier row
    cleared_n: int = 0  # prompts from which U+0000 was removed


def export(
    lineage: Lineage,
    cells: Cell | Sequence[Cell],
    seeds: Seeds,
    target: Target,
    *,
    extras: Sequence[str] = (),
    drafts: Drafts | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Export:
    """Write a file with the prompts that need an answer and were not sent before, and record these prompts in the ledger.

    Interrupted exports are completed first. Several lists are written to one file, which contains each prompt once. The ledger
    entry of the export contains, for each list, the prompts that are sent now and the prompts that were sent before. If no prompt
    is left to send, no file is written. An entry is then stored only if one of the lists contains a prompt that earlier exports
    sent, but did not record for this list. Found tasks are fixed (see `graph.fixed_tasks`).

    `seeds` are selection seeds or "all"; None if each cell has only one list, as in a campaign. `target` has an absolute path.
    `extras` are further columns of the user's file, `drafts` texts for annotators to edit. If the export waits
    for another export or import, `on_wait` receives a sentence about that one.

    Raises:
        ValueError: a seed is missing or unknown, a column cannot be exported, or the file exists already, among others.
        StaleInputError: a cell's list is missing or stale.
    """
    experiment, store = lineage.experiment, lineage.store
    cells = [cells] if isinstance(cells, Cell) else cells
    with hold(store, LOCK, on_wait=on_wait):
        names = lists.names(lineage.again(), cells, seeds)
        layout = lists.layout_of(experiment, store, extras)
        entries = ledger.entries(store)
        finished = delivery.finish_all(entries)
        went_out = ledger.of_kept_prompts(entries, copies.kept_of(store))
        found = lists.gather(store, names, ledger.sent_prompt_ids(went_out))
        rows = lists.rows(experiment, store.read_table("raw_pool").table, found.batch, layout)
        if drafts is not None:
            layout, rows = with_drafts(layout, rows, drafts)
        time = ledger.next_time(entries, datetime.now(UTC))
        entry = ledger.of_lists(time, found.lists, [row["prompt_id"] for row in rows])
        fixed_tasks.fix(store)  # before the ledger says that prompts were sent
        if rows:
            _deliver(store, replace(entry, layout=layout), rows, target)
        elif _says_something(entry, entries):
            ledger.note(store, entry)
    return _result(rows, found, finished)


def export_held_out(
    lineage: Lineage, target: Target, *, extras: Sequence[str] = (), on_wait: Callable[[str], None] | None = None
) -> Export:
    """Write a file with the held-out items that need an answer and were not sent before, and record these items in the ledger.

    If no item is left to send, no file is written. The arguments have the same meaning as in `export`.

    Raises:
        ValueError: the experiment has no held-out items whose answers are imported, or the file exists already, among others.
        StaleInputError: the stored pool is missing or stale.
    """
    experiment, store = lineage.experiment, lineage.store
    if not experiment.has_later_answers:
        raise ValueError(
            f"{experiment.name} has no held-out items whose answers are imported; add "
            "`benchmarks: [{name: held_out, per_task: 20, answers: later}]` to its file"
        )
    with hold(store, LOCK, on_wait=on_wait):
        lineage = lineage.again()
        entries = ledger.entries(store)
        finished = delivery.finish_all(entries)
        went_out = ledger.of_kept_prompts(entries, copies.kept_of(store))
        found = lists.gather_held_out(lineage, ledger.sent_prompt_ids(went_out))
        layout = lists.layout_of(experiment, store, extras)
        rows = lists.rows(experiment, lineage.held_out_items, found.batch, layout)
        if rows:
            time = ledger.next_time(entries, datetime.now(UTC))
            entry = ledger.of_held_out(time, [row["prompt_id"] for row in rows])
            _deliver(store, replace(entry, layout=layout), rows, target)
    return _result(rows, found, finished)


def _result(rows: Sequence[Row], found: lists.Gathered, finished: list[Path]) -> Export:
    repeats_n = len(rows) - len({row["prompt"] for row in rows})
    cleared_n = sum("\0" in str(row["prompt"]) for row in found.batch)
    return Export(len(rows), found.out_n, found.answered_n, finished, len(found.lists), repeats_n, cleared_n)


def _says_something(entry: Entry, entries: Sequence[Entry]) -> bool:
    """Return True if a list of `entry` contains a prompt that earlier `entries` sent, but did not record for this list."""
    before = sent(entries)
    return any(
        {(one.selection_seed, prompt_id) for prompt_id in one.already_sent_ids}
        - listed(before, one.cell, [one.selection_seed])
        for one in sent([entry])
    )


def rewrite(store: Store, number: int, output: Path | None, file_format: str | None) -> tuple[Target, int]:
    """Write the file of an earlier export again. Return the file's path and format, and the number of its prompts.

    The ledger does not change. `number` is the export's number in `taskdiv annotations list`, from 1. `output` and `file_format`
    are by default the path and the format of the export. If only `file_format` is given, the ending of the path changes too.
    Raise ValueError if the export does not exist or sent nothing, if its rows were not recorded, or if the path has another file.
    """
    entries = ledger.entries(store)
    named = f"export {number} of {store.experiment}"
    if not 1 <= number <= len(entries):
        raise ValueError(f"there is no {named}; the ledger has {len(entries)}, counted from 1")
    entry = entries[number - 1]
    if not entry.prompt_ids:
        raise ValueError(
            f"{named} sent nothing: all {len(entry.already_sent_ids)} prompts of its list were sent before, so there is no "
            "file to write again"
        )
    if not entry.rows or entry.file is None or entry.format is None:
        raise ValueError(
            f"{named} was made by an earlier version, which recorded only ids; its {len(entry.prompt_ids)} prompt_ids are in "
            f"{store.locate('exports', f'{entry.name}.json')}"
        )
    chosen = file_format or entry.format
    path = Path(entry.file)
    target = Target(output or (path if chosen == entry.format else path.with_suffix(f".{ENDINGS[chosen]}")), chosen)
    data = render(entry.rows, chosen, entry.layout)
    with hold(store, LOCK):
        delivery.check_target(target.path, data)
        _write_config(target, entry.layout)
        delivery.write_whole(target.path, data)
    return target, len(entry.rows)


def _deliver(store: Store, entry: Entry, rows: list[Row], target: Target) -> None:
    """Write the file in the three steps of `delivery`. If the target has a configuration of Label Studio, write it first."""
    data = render(rows, target.format, entry.layout)
    delivery.check_target(target.path)
    _write_config(target, entry.layout)
    delivery.write_synced(delivery.part_of(target.path), data)
    digest = hashlib.sha256(data).hexdigest()
    whole = replace(entry, rows=tuple(rows), format=target.format, file=str(target.path), sha256=digest)
    ledger.note(store, whole)
    delivery.finish(target.path)


def _write_config(target: Target, layout: Layout) -> None:
    if target.config_path is not None:
        config = label_studio.config(layout).encode()
        delivery.check_target(target.config_path, config)
        delivery.write_whole(target.config_path, config)
