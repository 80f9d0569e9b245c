"""The `taskdiv annotations` commands: to the annotators and back. Every one says what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from taskdiv_assets.cells import Cell
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
)
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.store import Store

if TYPE_CHECKING:
    from taskdiv_assets.annotating.exporting import Target

annotations_app = typer.Typer(help="Send prompts to annotators, and bring answers back.", no_args_is_help=True)
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
        of_seed = "" if seed is None else f"-seed{seed}"
        name = f"{chosen.name}-{strategy}-{budget_n}{of_seed}.{formats.ENDINGS[file_format]}"
        target = exporting.Target((output or Path(name)).absolute(), file_format)
        result = exporting.export(
            chosen, Store(chosen.name), Cell(budget_n, strategy), seed, target, on_wait=_say_who_exports
        )
        for path in result.finished:
            out.print(f"an export that was interrupted is finished: {escaped(_near(path))}")
        price = chosen.annotation.price
        said = (
            ""
            if price is None
            else f", {chosen.annotation.cost(result.rows_n)} at {chosen.annotation.amount(price)} each"
        )
        cost = said if result.rows_n else ""
        out.print(f"{result.rows_n:,} prompts to annotate{cost}; {result.already_sent_n:,} were sent out before")
        if result.rows_n:
            _say_next(chosen.name, target)
        elif result.already_sent_n:
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
        table = Table("export", "sent out (UTC)", "cell", "seed", "prompts", "answered")
        table.add_column("file", overflow="fold")  # a path that is cut is of no use
        for number, entry in enumerate(entries, start=1):
            row = (number, f"{entry.time:%Y-%m-%d %H:%M}", entry.cell, entry.selection_seed, len(entry.prompt_ids))
            answered_n = len(answered.intersection(entry.prompt_ids))
            file = escaped(_near(Path(entry.file))) if entry.file else "not noted"
            table.add_row(*map(str, row), str(answered_n), file)
        if entries:
            out.print(table)
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
    experiment_or_file: Annotated[
        str,
        typer.Argument(metavar="[EXPERIMENT]", help="May be left out where one experiment alone sent the prompts out."),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Answers: .csv or .jsonl, or Label Studio's JSON, JSON-MIN or CSV."),
    ] = None,
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
        path = Path(experiment_or_file) if file is None else file
        found = read_answers(path)
        name = find_experiment(found) if file is None else experiment_or_file
        chosen = open_experiment(name)
        result = import_answers(chosen, Store(chosen.name), found, annotator, is_accepting_valid=accept_valid)
        said = "imported" if result.is_new else "imported before:"
        out.print(f"{said} {result.answers_n:,} answers to {result.prompts_n:,} prompts of {chosen.name}")
        if found.skipped_n or found.unanswered_n:
            out.print(f"not answered: {found.skipped_n:,} skipped, {found.unanswered_n:,} not annotated yet")
        if result.report is not None:
            out.print(
                f"left out: {len(result.left_out):,} row(s) that cannot be used, see {escaped(str(result.report))}"
            )
        if result.is_new:
            _materialise(chosen)
        out.print(f"next: taskdiv run {escaped(name)}")


def _materialise(experiment: Experiment) -> None:
    """Bring the table `annotations` up to date."""
    from taskdiv_assets import instance, workers

    quietly()
    with instance.open_instance():
        outcome = workers.execute(experiment.name, workers.Task("pool", ("annotations",), None))
    if not outcome.is_success:
        fail(f"the answers are stored, but their table could not be made: {outcome.message}", code=1)


def _say_who_exports(holder: str) -> None:
    console.print(f"another export of this experiment is at work ({escaped(holder)}); waiting for it")


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
