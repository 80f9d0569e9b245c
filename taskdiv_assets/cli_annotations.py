"""The `taskdiv annotations` commands: to the annotators and back. Every one says what comes next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from taskdiv_assets.cells import Cell, registered
from taskdiv_assets.cli_shared import (
    EXPERIMENT,
    check_filters,
    console,
    escaped,
    fail,
    open_experiment,
    out,
    quietly,
    said_plainly,
    say_warnings,
)
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.settings import NAME_PATTERN
from taskdiv_assets.store import Store
from taskdiv_assets.wanted import Filter

if TYPE_CHECKING:
    from taskdiv_assets.annotating.exporting import Export, Target
    from taskdiv_assets.annotating.ledger import Entry

annotations_app = typer.Typer(help="Send prompts to annotators, and bring answers back.", no_args_is_help=True)
IMPORT_HELP = (
    "FILE: answers as .csv or .jsonl, or Label Studio's JSON, JSON-MIN or CSV. EXPERIMENT before it may be left out where "
    "one experiment alone sent the prompts out."
)
FORMAT_HELP = "jsonl, csv (for a spreadsheet program) or label-studio."
OUTPUT = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write.")]


@annotations_app.command("export")
def annotations_export(
    experiment: EXPERIMENT,
    budget: Annotated[str, typer.Option(metavar="N", help="The budget whose prompts go out.")],
    strategy: Annotated[str, typer.Option(metavar="S", help="The strategy that chose them.")],
    seed: Annotated[int | None, typer.Option(help="Selection seed; a study has one list per seed.")] = None,
    file_format: Annotated[str, typer.Option("--format", help=FORMAT_HELP)] = "jsonl",
    output: OUTPUT = None,
) -> None:
    """Write the prompts of one cell that still need an answer and were not sent out before.

    Each export is kept in a ledger, so that no prompt goes out twice; `taskdiv annotations list` shows it.
    """
    from taskdiv_assets.annotating import exporting, formats

    with said_plainly():
        exporting.check_format(file_format)
        chosen = open_experiment(experiment)
        (budget_n,) = check_filters(chosen, [budget], [strategy])
        _check_is_budget(chosen, budget_n)
        of_seed = "" if seed is None else f"-seed{seed}"
        name = f"{chosen.name}-{strategy}-{budget_n}{of_seed}.{formats.ENDINGS[file_format]}"
        target = exporting.Target((output or Path(name)).absolute(), file_format)
        result = exporting.export(
            chosen, Store(chosen.name), Cell(budget_n, strategy), seed, target, on_wait=_say_who_exports
        )
        for path in result.finished:
            out.print(f"an export that was interrupted is finished: {escaped(_near(path))}")
        say_warnings(chosen, Filter((budget_n,), (strategy,), "annotation_batch"))
        out.print(_sent(chosen, result))
        if result.rows_n:
            _say_next(chosen.name, target)
        elif result.out_n:
            out.print(f"where they went: taskdiv annotations list {chosen.name}")


@annotations_app.command("list")
def annotations_list(experiment: EXPERIMENT) -> None:
    """Show what was sent out, when and where to, and how much of it came back."""
    from taskdiv_assets.annotating import ledger
    from taskdiv_assets.answers import newest_annotations

    with said_plainly():
        chosen = open_experiment(experiment)
        store = Store(chosen.name)
        entries = ledger.entries(store)
        answered = set(newest_annotations(store)["prompt_id"].to_pylist())
        if entries:
            out.print(_ledger_table(entries, answered))
        for number, entry in enumerate(entries, start=1):
            file = escaped(_near(Path(entry.file))) if entry.file else "not noted" if entry.prompt_ids else "none"
            out.print(f"file of export {number}: {file}")
        sent = ledger.sent_prompt_ids(entries)
        out.print(
            f"{len(sent):,} prompts of {chosen.name} were sent out, {len(sent & answered):,} of them are answered"
        )


@annotations_app.command("rewrite")
def annotations_rewrite(
    experiment: EXPERIMENT,
    export: Annotated[int, typer.Argument(metavar="EXPORT", help="Its number in `taskdiv annotations list`.")],
    file_format: Annotated[str | None, typer.Option("--format", help=f"{FORMAT_HELP} Default: as it was.")] = None,
    output: OUTPUT = None,
) -> None:
    """Write the file of an earlier export again: it was lost, or is wanted in another format. Nothing is sent anew."""
    from taskdiv_assets.annotating import exporting

    with said_plainly():
        if file_format is not None:
            exporting.check_format(file_format)
        chosen = open_experiment(experiment)
        path = output.absolute() if output else None
        target, rows_n = exporting.rewrite(Store(chosen.name), export, path, file_format)
        out.print(f"{rows_n:,} prompts of export {export}, as they went out")
        _say_next(chosen.name, target)


@annotations_app.command("import")
def annotations_import(
    experiment_and_file: Annotated[
        list[str],
        typer.Argument(metavar="[EXPERIMENT] FILE", help=IMPORT_HELP, show_default=False),
    ],
    annotator: Annotated[str | None, typer.Option(help="Who answered, where the file does not say.")] = None,
    accept_valid: Annotated[
        bool, typer.Option("--accept-valid", help="Store the valid rows although others cannot be used.")
    ] = False,
) -> None:
    """Store annotators' answers: all of them, or none if a row cannot be used.

    The file needs the columns prompt_id and response. Rows that cannot be used are listed in FILE.problems.csv.
    """
    from taskdiv_assets.annotating.answer_files import read_answers
    from taskdiv_assets.annotating.importing import find_experiment, import_answers

    with said_plainly():
        given, path = _given(experiment_and_file)
        found = read_answers(path)
        name = given or find_experiment(found)
        chosen = open_experiment(name)
        result = import_answers(
            chosen, Store(chosen.name), found, annotator, is_accepting_valid=accept_valid, on_wait=_say_who_exports
        )
        said = "imported" if result.is_new else "imported before:"
        out.print(f"{said} {result.answers_n:,} answers to {result.prompts_n:,} prompts of {chosen.name}")
        if found.skipped_n or found.unanswered_n:
            out.print(f"not answered: {found.skipped_n:,} skipped, {found.unanswered_n:,} not annotated yet")
        if result.report is not None:
            lost = f" and {found.unread_n:,} line(s) below them that were not read" if found.unread_n else ""
            out.print(
                f"left out: {len(result.left_out):,} row(s) that cannot be used{lost}, see {escaped(str(result.report))}"
            )
        if result.is_new:
            _materialise(chosen)
        others = "" if len(chosen.strategies) == 1 else ", with --strategy for those whose lists are answered alone"
        out.print(f"next: taskdiv run {escaped(name)}{others}")


def _check_is_budget(experiment: Experiment, budget_n: int) -> None:
    """A list is made for every budget that is registered, and for no other."""
    known = registered(experiment, Store(experiment.name))
    if budget_n not in known:
        raise ValueError(
            f"{budget_n} is not a budget of {experiment.name} ({', '.join(map(str, known))}); "
            f"`taskdiv budget add {experiment.name} {budget_n}`, "
            f"then `taskdiv run {experiment.name} --until annotation_batch`"
        )


def _sent(experiment: Experiment, result: Export) -> str:
    """How many prompts of a list go now, are out, and are answered."""
    annotation = experiment.annotation
    before = f"{result.out_n:,} are out already, {result.answered_n:,} have their answer"
    if result.rows_n:
        cost = "" if annotation.price is None else f", {annotation.cost(result.rows_n)} at {annotation.unit_price} each"
        return f"{result.rows_n:,} prompts to annotate{cost}; {before}"
    return f"nothing new to send out: {before}" if result.out_n else f"all {result.answered_n:,} are answered"


def _ledger_table(entries: Sequence[Entry], answered: set[str]) -> Table:
    """One line an export; the name of the cell is folded where the terminal is narrow, and never cut."""
    table = Table()
    for name in ("export", "sent out (UTC)", "cell", "seed", "prompts", "answered", "of earlier exports"):
        table.add_column(name, overflow="fold")
    for number, entry in enumerate(entries, start=1):
        answered_n = len(answered.intersection(entry.prompt_ids))
        counts = (len(entry.prompt_ids), answered_n, len(entry.already_sent_ids))
        row = (number, f"{entry.time:%Y-%m-%d %H:%M}", entry.cell, entry.selection_seed, *counts)
        table.add_row(*map(str, row))
    return table


def _given(arguments: Sequence[str]) -> tuple[str | None, Path]:
    """Experiment, if it was named, and file of an import.

    Raises:
        ValueError: the file is missing, or there is more than the two.
    """
    if len(arguments) > 2:
        raise ValueError(
            f"expected an experiment and one file, found {len(arguments)} names; import the files one by one"
        )
    *experiment, file = arguments
    is_name = re.fullmatch(NAME_PATTERN, file) and not Path(file).is_file()
    if not experiment and (is_name or file.endswith((".yaml", ".yml"))):
        raise ValueError(f"FILE is missing: `taskdiv annotations import {file} FILE`, with the annotators' answers")
    return (experiment[0] if experiment else None), Path(file)


def _materialise(experiment: Experiment) -> None:
    """Bring the table `annotations` up to date."""
    from taskdiv_assets import instance, workers

    quietly()
    with instance.open_instance():
        outcome = workers.execute(experiment.name, workers.Task("pool", ("annotations",), None))
    if not outcome.is_success:
        fail(f"the answers are stored, but their table could not be made: {outcome.message}", code=1)


def _say_who_exports(holder: str) -> None:
    console.print(f"another export or import of this experiment is at work ({escaped(holder)}); waiting for it")


def _say_next(name: str, target: Target) -> None:
    """Where the list is, and what to do with it."""
    out.print(f"file: {escaped(_near(target.path))}")
    if target.config_path is None:
        out.print(f"next: have `response` filled in, then taskdiv annotations import {name} FILE")
        return
    out.print(f"labelling configuration: {escaped(_near(target.config_path))}")
    out.print(
        "next: make a project in Label Studio, paste the configuration under Labeling Setup > Custom template > Code,\n"
        f"import the file; at the end export as JSON, then taskdiv annotations import {name} EXPORT.json"
    )


def _near(path: Path) -> str:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
