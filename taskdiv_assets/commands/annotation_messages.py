"""Lines and tables that the `taskdiv annotations` commands print about exports, imports and the ledger.

The lines may contain control characters from users' files, so commands must print them with `consoles.say`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from taskdiv_assets.annotating.answer_files import AnswerFile
from taskdiv_assets.annotating.exporting import Export, Target
from taskdiv_assets.annotating.importing import Import, StoredImport
from taskdiv_assets.annotating.ledger import HELD_OUT, RECALL, Entry, Share
from taskdiv_assets.annotating.recalling import Person, Recall
from taskdiv_assets.commands.consoles import folded, near, visible
from taskdiv_assets.experiment import Experiment


def imported(experiment: Experiment, result: Import, found: AnswerFile) -> list[str]:
    """Return lines about an import: stored and replaced answers, missing answers, and rows that were left out or not read."""
    verb = "imported" if result.is_new else "imported before:"
    lines = [f"{verb} {result.answers_n:,} answers to {result.prompts_n:,} prompts of {experiment.name}"]
    if result.replaced_n:
        lines.append(
            f"replaced: {result.replaced_n:,} of these prompts had another answer from an earlier import; the newest counts, and "
            f"the earlier ones are kept, see taskdiv annotations list {experiment.name}"
        )
    if result.dealt_to:
        lines.append(f"annotator: {result.dealt_to}, because only this person was sent all these prompts")
    if result.differing_n:
        lines.append(
            f"differing: annotators gave different answers to {result.differing_n:,} of these prompts; all are kept, and "
            f"{experiment.annotation.which_counts}"
        )
    if result.held_out_n:
        lines.append(
            f"held out: {result.held_out_n:,} of these prompts are items of the benchmark `held_out`; their answers are scored, "
            "and never trained on"
        )
    if found.skipped_n or found.unanswered_n:
        lines.append(f"not answered: {found.skipped_n:,} skipped, {found.unanswered_n:,} not answered yet")
    if result.report is not None:
        lost = f" and {found.unread_n:,} line(s) below them that were not read" if found.unread_n else ""
        left_out_n = len(result.left_out)
        lines.append(f"left out: {left_out_n:,} row(s) that cannot be used{lost}, see {near(result.report)}")
    return lines


def sent(experiment: Experiment, result: Export) -> list[str]:
    """Return lines about an export: number and cost of its prompts, and notes on their texts; one line if it has no prompts."""
    annotation = experiment.annotation
    before = f"{result.out_n:,} are out already, {result.answered_n:,} have their answer"
    if not result.rows_n:
        return [f"nothing new to send out: {before}" if result.out_n else f"all {result.answered_n:,} are answered"]
    twice_n = result.answers_n - result.rows_n
    cost = "" if annotation.price is None else f", {annotation.cost(result.answers_n)} at {annotation.unit_price} each"
    several = f" for {result.lists_n} lists, each prompt once" if result.lists_n > 1 else ""
    twice = f", {twice_n:,} of them by two people" if twice_n else ""
    lines = [f"{result.rows_n:,} prompts to annotate{twice}{several}{cost}; {before}"]
    if result.shares:
        lines.append(f"dealt out: {_counted(result.shares)}")
    if result.repeats_n:
        lines.append(
            f"repeated: {result.repeats_n:,} of them repeat the text of another prompt of this file, which would be answered "
            "more than once; `duplicates: drop` under `pool:` exports each text once"
        )
    if result.cleared_n:
        lines.append(
            f"left out: the character U+0000 of {result.cleared_n:,} prompt(s), which spreadsheet programs cannot hold"
        )
    return lines


def recalled(experiment: Experiment, result: Recall, file_format: str) -> list[str]:
    """Return lines about a recall: who gave back how much, who gets how much, what stays, and the next step."""
    if not result.shares:
        return [
            f"nothing to take back: no prompt of that kind is outstanding, see taskdiv annotations list {experiment.name}"
        ]
    lines = [
        f"taken back: {_counted(result.taken)}",
        f"dealt out: {_counted(result.shares)}, as export {result.number}",
    ]
    if result.left_n:
        lines.append(
            f"not taken back: {result.left_n:,} answer(s), because everybody else has had their prompts; name "
            "somebody new with --to"
        )
    targets = [Target(Path(one.file), file_format) for one in result.shares if one.file]
    return [*lines, *next_with_files(experiment.name, targets)]


def next_with_files(name: str, targets: Sequence[Target]) -> list[str]:
    """Return lines that name the exported files and the next step."""
    lines = []
    for target in targets:
        lines.append(f"file: {near(target.path)}")
        if target.config_path is not None:
            lines.append(f"labelling configuration: {near(target.config_path)}")
    if not any(target.config_path for target in targets):
        return [*lines, f"next: fill in the column `response`, then taskdiv annotations import {name} FILE"]
    each = "for each file " if len(targets) > 1 else ""
    return [
        *lines,
        f"next: {each}make a project in Label Studio, paste the configuration under Labeling Setup > Custom template > Code,",
        f"import the file; at the end export as JSON, then taskdiv annotations import {name} EXPORT.json"
        + (" --annotator NAME" if each else ""),
    ]


def after_export(experiment: Experiment, result: Export, target: Target) -> list[str]:
    """Return lines that name the next step after an export. An export without new prompts has no file."""
    if result.rows_n:
        return next_with_files(experiment.name, [target.of(one.annotator) for one in result.shares] or [target])
    if not result.out_n:
        return [f"next: taskdiv run {experiment.name}"]
    return [
        f"earlier exports: taskdiv annotations list {experiment.name}",
        f"next: taskdiv annotations import {experiment.name} FILE, with the answers",
    ]


def ledger_table(entries: Sequence[Entry], answered: set[str]) -> Table:
    """Return a table of all exports: one row for each list, for each export of held-out items, and for each recall.

    `answered` contains the ids of the prompts that have an answer.
    """
    table = folded("export", "sent out (UTC)", "cell", "seed", "prompts", "answered", "of earlier exports")
    for number, entry in enumerate(entries, start=1):
        for place, one in enumerate(entry.of_lists):
            answered_n = len(answered.intersection(one.prompt_ids))
            counts = (len(one.prompt_ids), answered_n, len(one.already_sent_ids))
            first = (str(number), f"{entry.time:%Y-%m-%d %H:%M}") if place == 0 else ("", "")
            table.add_row(*map(_plain_cell, (*first, one.cell.key, one.selection_seed, *counts)))
        if entry.cell in (HELD_OUT, RECALL):
            name = "held-out items" if entry.cell == HELD_OUT else "recall"
            counts = (len(entry.prompt_ids), len(answered.intersection(entry.prompt_ids)), 0)
            table.add_row(*map(_plain_cell, (number, f"{entry.time:%Y-%m-%d %H:%M}", name, "", *counts)))
    return table


def which_counts(experiment: Experiment, differing_n: int) -> str:
    """Return a line about prompts to which annotators gave different answers: how many, and which answer counts."""
    return (
        f"annotators gave different answers to {differing_n:,} prompts; {experiment.annotation.which_counts} "
        "(annotation.when_answers_differ)"
    )


def people_table(people: Sequence[Person]) -> Table:
    """Return a table of all annotators whom an export named: what each was sent, answered, gave back and has still to answer."""
    table = folded("annotator", "sent", "answered", "taken back", "outstanding", "oldest (UTC)")
    for one in people:
        oldest = "" if one.oldest is None else f"{one.oldest:%Y-%m-%d %H:%M}"
        table.add_row(
            *map(_plain_cell, (one.name, one.sent_n, one.answered_n, one.recalled_n, one.outstanding_n, oldest))
        )
    return table


def imports_table(imports: Sequence[StoredImport]) -> Table:
    """Return a table of all imports, with the number of prompts whose answer was replaced by a later import."""
    table = folded("import", "imported (UTC)", "answers", "replaced since", "hash")
    for number, one in enumerate(imports, start=1):
        time = "" if one.imported_at is None else f"{one.imported_at:%Y-%m-%d %H:%M}"
        table.add_row(*map(_plain_cell, (number, time, one.answers_n, one.replaced_n, one.batch[:16])))
    return table


def _counted(shares: Sequence[Share]) -> str:
    return ", ".join(f"{one.annotator} {len(one.prompt_ids):,}" for one in shares)


def _plain_cell(value: object) -> Text:
    return Text(visible(str(value), is_one_line=True))
