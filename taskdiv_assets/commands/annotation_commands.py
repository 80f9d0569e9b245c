"""The `taskdiv annotations` commands: to the annotators and back. Every one says what comes next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from taskdiv_assets.annotating.answer_files import AnswerFile, Reading
from taskdiv_assets.commands.annotation_messages import (
    imported,
    imports_table,
    ledger_table,
    next_with_file,
    next_without_rows,
    sent,
)
from taskdiv_assets.commands.consoles import console, escaped, fail, near, out, plain_errors, quietly, say
from taskdiv_assets.commands.opening import EXPERIMENT, check_filters, open_experiment, say_warnings
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell, registered
from taskdiv_assets.settings import NAME_PATTERN
from taskdiv_assets.storage.store import Store

annotations_app = typer.Typer(help="Send prompts to annotators, and bring answers back.", no_args_is_help=True)
IMPORT_HELP = (
    "FILE: answers as .csv, .xlsx, .ods or .jsonl, or Label Studio's JSON, JSON-MIN or CSV. EXPERIMENT before it may be left "
    "out where one experiment alone sent the prompts out."
)
FORMAT_HELP = "jsonl, csv (for a spreadsheet program) or label-studio."
OUTPUT = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write.")]


@annotations_app.command("export")
def annotations_export(
    experiment: EXPERIMENT,
    budget: Annotated[
        str | None, typer.Option(metavar="N", help="The budget; may be left out if there is one.")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="S", help="The strategy that chose the prompts; may be repeated. Default: all of the file."
        ),
    ] = None,
    seed: Annotated[
        list[str] | None,
        typer.Option(metavar="SEED", help="Selection seed, or all; may be repeated. A campaign needs none."),
    ] = None,
    with_columns: Annotated[
        list[str] | None, typer.Option("--with", metavar="A,B", help="Columns of your own file to carry along.")
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help=f"{FORMAT_HELP} Default: by the ending of --output, else jsonl.")
    ] = None,
    output: OUTPUT = None,
) -> None:
    """Write the prompts of a list that still need an answer and were not sent out before.

    Several lists (strategies, or seeds of a study) make one file with each prompt once. Each export is kept in a ledger, so
    that no prompt goes out twice; `taskdiv annotations list` shows it.
    """
    from taskdiv_assets.annotating import exporting
    from taskdiv_assets.assets import REGISTRY

    with plain_errors():
        format_ = file_format or ("csv" if output and output.suffix.lower() == ".csv" else "jsonl")
        exporting.check_format(format_)
        seeds = _seeds(seed or ())
        chosen = open_experiment(experiment)
        strategies = list(dict.fromkeys(strategy or chosen.strategies))
        numbers = check_filters(chosen, [] if budget is None else [budget], strategies)
        budget_n = numbers[0] if numbers else _only_budget(chosen)
        _check_is_budget(chosen, budget_n)
        path = output or Path(_file_name(chosen, strategies, budget_n, seeds, format_))
        target = exporting.Target(path.absolute(), format_)
        result = exporting.export(
            REGISTRY.look(chosen, Store(chosen.name)),
            [Cell(budget_n, name) for name in strategies],
            seeds,
            target,
            extras=[name.strip() for names in with_columns or () for name in names.split(",")],
            on_wait=_say_who_exports,
        )
        for finished in result.finished:
            say(f"an export that was interrupted is finished: {near(finished)}")
        say_warnings(chosen, Filter((budget_n,), tuple(strategies), "annotation_batch"))
        for line in sent(chosen, result):
            say(line)
        for line in next_with_file(chosen.name, target) if result.rows_n else [next_without_rows(chosen, result)]:
            say(line)


@annotations_app.command("list")
def annotations_list(experiment: EXPERIMENT) -> None:
    """Show what was sent out, when and where to, how much of it came back, and every import."""
    from taskdiv_assets.annotating import ledger
    from taskdiv_assets.annotating.importing import imports
    from taskdiv_assets.graph.known_answers import newest_annotations
    from taskdiv_assets.pools import copies

    with plain_errors():
        chosen = open_experiment(experiment)
        store = Store(chosen.name)
        entries = ledger.of_kept_prompts(ledger.entries(store), copies.kept_of(store))
        answered = set(newest_annotations(store)["prompt_id"].to_pylist())
        if entries:
            out.print(ledger_table(entries, answered))
        for number, entry in enumerate(entries, start=1):
            file = near(Path(entry.file)) if entry.file else "not noted" if entry.prompt_ids else "none"
            say(f"file of export {number}: {file}")
        brought = imports(store)
        if brought:
            out.print(imports_table(brought))
            say(f"each import is a file of its own, never changed: {store.locate('annotations')}/HASH….parquet")
        went_out = ledger.sent_prompt_ids(entries)
        answered_n = len(went_out & answered)
        say(f"{len(went_out):,} prompts of {chosen.name} were sent out, {answered_n:,} of them are answered")


@annotations_app.command("rewrite")
def annotations_rewrite(
    experiment: EXPERIMENT,
    export: Annotated[int, typer.Argument(metavar="EXPORT", help="Its number in `taskdiv annotations list`.")],
    file_format: Annotated[str | None, typer.Option("--format", help=f"{FORMAT_HELP} Default: as it was.")] = None,
    output: OUTPUT = None,
) -> None:
    """Write the file of an earlier export again: it was lost, or is wanted in another format. Nothing is sent anew."""
    from taskdiv_assets.annotating import exporting

    with plain_errors():
        if file_format is not None:
            exporting.check_format(file_format)
        chosen = open_experiment(experiment)
        path = output.absolute() if output else None
        target, rows_n = exporting.rewrite(Store(chosen.name), export, path, file_format)
        say(f"{rows_n:,} prompts of export {export}, as they went out")
        for line in next_with_file(chosen.name, target):
            say(line)


@annotations_app.command("import")
def annotations_import(
    experiment_and_file: Annotated[
        list[str],
        typer.Argument(metavar="[EXPERIMENT] FILE", help=IMPORT_HELP, show_default=False),
    ],
    annotator: Annotated[str | None, typer.Option(help="Who answered, where the file does not say.")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT=COLUMN,…", help="Names of prompt_id, id (your own), response, annotator in FILE."),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of FILE, such as cp1252 or utf-16. Default: UTF-8.")] = None,
    accept_valid: Annotated[
        bool, typer.Option("--accept-valid", help="Store the valid rows although others cannot be used.")
    ] = False,
) -> None:
    """Store annotators' answers: all of them, or none if a row cannot be used.

    The file needs an id (prompt_id, or the ids of your own file) and the column response. Rows that cannot be used are listed
    in FILE.problems.csv.
    """
    from taskdiv_assets.annotating.columns import Names
    from taskdiv_assets.annotating.encodings import check_encoding
    from taskdiv_assets.annotating.importing import import_answers
    from taskdiv_assets.assets import REGISTRY

    with plain_errors():
        reading = Reading(Names.parse(columns or ()), None if encoding is None else check_encoding(encoding))
        given, path = _given(experiment_and_file)
        chosen, found = _read(given, path, reading)
        result = import_answers(
            REGISTRY.look(chosen, Store(chosen.name)),
            found,
            annotator,
            is_accepting_valid=accept_valid,
            on_wait=_say_who_exports,
        )
        for line in imported(chosen, result, found):
            say(line)
        if result.is_new:
            _materialise(chosen)
        say(f"next: taskdiv run {given or chosen.name}")


def _read(given: str | None, path: Path, reading: Reading) -> tuple[Experiment, AnswerFile]:
    """The experiment of a file, and the file's answers, by the names that this experiment's own ids have."""
    from taskdiv_assets.annotating.answer_files import read_answers, read_bytes
    from taskdiv_assets.annotating.importing import find_experiment, own_id_columns, stored_experiments

    data = read_bytes(path)  # a pipe can be read once
    if given is None:
        anybodys = {name for one in stored_experiments() for name in own_id_columns(Store(one))}
        names = reading.names.of_lists(anybodys)
        given = find_experiment(read_answers(path, reading._replace(names=names), data))
    chosen = open_experiment(given)
    names = reading.names.of_lists(own_id_columns(Store(chosen.name), chosen))
    return chosen, read_answers(path, reading._replace(names=names), data)


def _check_is_budget(experiment: Experiment, budget_n: int) -> None:
    """A list is made for every budget that is registered, and for no other."""
    known = registered(experiment, Store(experiment.name))
    if budget_n not in known:
        raise ValueError(
            f"{budget_n} is not a budget of {experiment.name} ({', '.join(map(str, known))}); "
            f"`taskdiv budget add {experiment.name} {budget_n}`, "
            f"then `taskdiv run {experiment.name} --until annotation_batch`"
        )


def _only_budget(experiment: Experiment) -> int:
    """The budget of an experiment that has one alone.

    Raises:
        ValueError: it has several.
    """
    found = [n for n, kind in registered(experiment, Store(experiment.name)).items() if kind != "full_pool"]
    if len(found) != 1:
        choices = " or ".join(f"--budget {n}" for n in found)
        raise ValueError(f"{experiment.name} has {len(found)} budgets; say whose list goes out: {choices}")
    return found[0]


def _seeds(given: Sequence[str]) -> tuple[int, ...] | Literal["all"] | None:
    """Selection seeds of an export.

    Raises:
        ValueError: one is neither a whole number nor `all`.
    """
    if not given:
        return None
    if "all" in given:
        return "all"
    wrong = [text for text in given if not re.fullmatch(r"\d{1,18}", text, re.ASCII)]
    if wrong:
        raise ValueError(f"--seed {wrong[0]!r} is no seed; expected a whole number, or all")
    return tuple(map(int, given))


def _file_name(
    experiment: Experiment,
    strategies: Sequence[str],
    budget_n: int,
    seeds: tuple[int, ...] | Literal["all"] | None,
    file_format: str,
) -> str:
    """Name of a list's file where none was given: what it holds, as far as that is short."""
    from taskdiv_assets.annotating.formats import ENDINGS

    of_strategy = f"-{strategies[0]}" if len(strategies) == 1 else ""
    of_seed = "" if seeds is None else "-seeds" if seeds == "all" else "-seed" + "-".join(map(str, seeds))
    return f"{experiment.name}{of_strategy}-{budget_n}{of_seed}.{ENDINGS[file_format]}"


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
    from taskdiv_assets.commands import workers
    from taskdiv_assets.orchestration import instance

    quietly()
    with instance.open_instance():
        outcome = workers.execute(experiment.name, workers.Task("pool", ("annotations",), None))
    if not outcome.is_success:
        fail(f"the answers are stored, but their table could not be made: {outcome.message}", code=1)


def _say_who_exports(holder: str) -> None:
    console.print(f"another export or import of this experiment is at work ({escaped(holder)}); waiting for it")
