"""Export of the prompts of lists, or of the held-out items, that need an answer and were not sent before.

If there are such prompts, an export writes the user's file and a ledger entry. The next export completes an interrupted export
(see `delivery`). A lock allows one export or import at a time, because two exports at the same time could send prompts twice.
An export may be dealt out among several annotators (see `dealing`), each with a file of his or her own. `recalling` takes back
what did not return from one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.annotating import delivery, label_studio, ledger, lists
from taskdiv_assets.annotating.dealing import Dealt, deal_new
from taskdiv_assets.annotating.drafts import Drafts, with_drafts
from taskdiv_assets.annotating.formats import ENDINGS, render
from taskdiv_assets.annotating.layout import Layout, Row
from taskdiv_assets.annotating.ledger import Entry, Share, listed, sent
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

    def of(self, annotator: str) -> Target:
        """Return the target of one annotator's file: `list-anna.csv` for `list.csv`."""
        return Target(self.path.with_name(f"{self.path.stem}-{annotator}{self.path.suffix}"), self.format)


class Team(NamedTuple):
    """The annotators among whom an export is dealt out."""

    annotators: tuple[str, ...]  # checked names, see `dealing.check_names`
    overlap: float = 0.0  # share of the prompts that two annotators get


class Export(NamedTuple):
    """Result of one export."""

    rows_n: int  # exported prompts, each counted once
    out_n: int  # prompts that were sent before and have no answer yet
    answered_n: int  # prompts that have an answer
    finished: list[Path]  # files of interrupted exports that this export completed
    lists_n: int = 1  # lists in the file
    repeats_n: int = 0  # rows that repeat the text of an earlier row
    cleared_n: int = 0  # prompts from which U+0000 was removed
    shares: tuple[Share, ...] = ()  # who got what; empty for an export in one file

    @property
    def answers_n(self) -> int:
        """Number of answers that are requested: more than the prompts if some of them go to two annotators."""
        return sum(len(one.prompt_ids) for one in self.shares) or self.rows_n


def export(
    lineage: Lineage,
    cells: Cell | Sequence[Cell],
    seeds: Seeds,
    target: Target,
    *,
    extras: Sequence[str] = (),
    drafts: Drafts | None = None,
    team: Team | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Export:
    """Write a file with the prompts that need an answer and were not sent before, and record these prompts in the ledger.

    Interrupted exports are completed first. Several lists are written to one file, which contains each prompt once. The ledger
    entry of the export contains, for each list, the prompts that are sent now and the prompts that were sent before. If no prompt
    is left to send, no file is written. An entry is then stored only if one of the lists contains a prompt that earlier exports
    sent, but did not record for this list. Found tasks are fixed (see `graph.fixed_tasks`).

    `seeds` are selection seeds or "all"; None if each cell has only one list, as in a campaign. `target` has an absolute path.
    `extras` are further columns of the user's file, `drafts` texts for annotators to edit. If there is a `team`, each annotator
    gets a file. If the export waits for another export or import, `on_wait` receives a sentence about that one.

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
            entry = deliver(store, _filled(entry, rows, layout, team), target)
        elif _says_something(entry, entries):
            ledger.note(store, entry)
    return _result(rows, found, finished, entry.shares)


def export_held_out(
    lineage: Lineage,
    target: Target,
    *,
    extras: Sequence[str] = (),
    team: Team | None = None,
    on_wait: Callable[[str], None] | None = None,
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
        shares: tuple[Share, ...] = ()
        if rows:
            time = ledger.next_time(entries, datetime.now(UTC))
            entry = ledger.of_held_out(time, [row["prompt_id"] for row in rows])
            shares = deliver(store, _filled(entry, rows, layout, team), target).shares
    return _result(rows, found, finished, shares)


def _result(rows: Sequence[Row], found: lists.Gathered, finished: list[Path], shares: tuple[Share, ...]) -> Export:
    repeats_n = len(rows) - len({row["prompt"] for row in rows})
    cleared_n = sum("\0" in str(row["prompt"]) for row in found.batch)
    return Export(len(rows), found.out_n, found.answered_n, finished, len(found.lists), repeats_n, cleared_n, shares)


def _filled(entry: Entry, rows: Sequence[Row], layout: Layout, team: Team | None) -> Entry:
    """Return an entry with its rows, its layout and, if there is a team, with who gets what."""
    whole = replace(entry, rows=tuple(rows), layout=layout)
    if team is None:
        return whole
    return replace(whole, shares=shares_of(deal_new({row["prompt_id"]: row["task"] for row in rows}, *team)))


def shares_of(dealt: Dealt) -> tuple[Share, ...]:
    return tuple(Share(name, ids) for name, ids in dealt.shares.items())


def _says_something(entry: Entry, entries: Sequence[Entry]) -> bool:
    """Return True if a list of `entry` contains a prompt that earlier `entries` sent, but did not record for this list."""
    before = sent(entries)
    return any(
        {(one.selection_seed, prompt_id) for prompt_id in one.already_sent_ids}
        - listed(before, one.cell, [one.selection_seed])
        for one in sent([entry])
    )


def rewrite(store: Store, number: int, output: Path | None, file_format: str | None) -> tuple[list[Target], int]:
    """Write the files of an earlier export again. Return each file's path and format, and the number of the export's prompts.

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
    if not entry.rows or not entry.files or entry.format is None:
        raise ValueError(
            f"{named} was made by an earlier version, which recorded only ids; its {len(entry.prompt_ids)} prompt_ids are in "
            f"{store.locate('exports', f'{entry.name}.json')}"
        )
    chosen = file_format or entry.format
    if output is not None:
        files = _files(entry, Target(output, chosen))
    else:
        paths = [
            Path(file) if chosen == entry.format else Path(file).with_suffix(f".{ENDINGS[chosen]}")
            for file, _ in entry.files
        ]
        data = [one.data for one in _files(entry, Target(paths[0], chosen))]
        files = [_File(Target(path, chosen), content) for path, content in zip(paths, data, strict=True)]
    with hold(store, LOCK):
        for one in files:
            delivery.check_target(one.target.path, one.data)
        for one in files:
            _write_config(one.target, entry.layout)
            delivery.write_whole(one.target.path, one.data)
    return [one.target for one in files], len(entry.rows)


class _File(NamedTuple):
    target: Target
    data: bytes


def _files(entry: Entry, target: Target) -> list[_File]:
    """Return the files of an entry: one for each annotator, or one for all prompts."""
    if not entry.shares:
        return [_File(target, render(entry.rows, target.format, entry.layout))]
    rows = {row["prompt_id"]: row for row in entry.rows}
    return [
        _File(
            target.of(one.annotator),
            render([rows[i] for i in one.prompt_ids], target.format, replace(entry.layout, annotator=one.annotator)),
        )
        for one in entry.shares
    ]


def deliver(store: Store, entry: Entry, target: Target) -> Entry:
    """Write the files of an entry in the three steps of `delivery`, and return the entry as the ledger has it.

    If the targets have configurations of Label Studio, write these first.
    """
    files = _files(entry, target)
    for one in files:
        delivery.check_target(one.target.path)
    for one in files:
        _write_config(one.target, entry.layout)
    for one in files:
        delivery.write_synced(delivery.part_of(one.target.path), one.data)
    named = [(str(one.target.path), hashlib.sha256(one.data).hexdigest()) for one in files]
    if entry.shares:
        shares = (
            replace(one, file=file, sha256=sha256) for one, (file, sha256) in zip(entry.shares, named, strict=True)
        )
        whole = replace(entry, format=target.format, shares=tuple(shares))
    else:
        whole = replace(entry, format=target.format, file=named[0][0], sha256=named[0][1])
    ledger.note(store, whole)
    for one in files:
        delivery.finish(one.target.path)
    return whole


def _write_config(target: Target, layout: Layout) -> None:
    if target.config_path is not None:
        config = label_studio.config(layout).encode()
        delivery.check_target(target.config_path, config)
        delivery.write_whole(target.config_path, config)
