"""The `taskdiv annotations` commands. They export lists of prompts, import answers, and list or rewrite earlier exports."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.annotating import drafts, exporting, importing, ledger, recalling
from taskdiv_assets.annotating.answer_files import AnswerFile, Reading, read_answers, read_bytes
from taskdiv_assets.annotating.columns import Names
from taskdiv_assets.annotating.dealing import check_names
from taskdiv_assets.annotating.encodings import check_encoding
from taskdiv_assets.annotating.formats import ENDINGS, check_format
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import annotation_messages as messages
from taskdiv_assets.commands import drafting
from taskdiv_assets.commands.consoles import fail, near, note, out, plain_errors, quietly, say
from taskdiv_assets.commands.opening import EXPERIMENT, check_filters, open_experiment, say_warnings
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.commands.workers import Task, execute
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell, registered
from taskdiv_assets.graph.known_answers import differing, newest_annotations
from taskdiv_assets.orchestration import instance
from taskdiv_assets.pools import copies
from taskdiv_assets.storage.store import Store

annotations_app = typer.Typer(
    help="Export lists of prompts for annotators, and import their answers.", no_args_is_help=True
)
IMPORT_HELP = (
    "FILE: answers as .csv, .xlsx, .ods or .jsonl, or Label Studio's JSON, JSON-MIN or CSV. EXPERIMENT can be left out if only "
    "one experiment exported these prompts."
)
FORMAT_HELP = "jsonl, csv (for a spreadsheet program) or label-studio."
OUTPUT = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write.")]
ANNOTATORS = Annotated[
    list[str] | None,
    typer.Option("--annotators", metavar="A,B", help="Deal the prompts out among these people, one file each."),
]
OVERLAP = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Share of the prompts that two of the annotators get. Default: 0."),
]
Seeds = tuple[int, ...] | Literal["all"] | None
BUDGET = Annotated[str | None, typer.Option(metavar="N", help="The budget; can be left out if there is only one.")]
STRATEGY = Annotated[
    list[str] | None,
    typer.Option(metavar="S", help="The strategy that chose the prompts; can be repeated. Default: all."),
]
SEED = Annotated[
    list[str] | None,
    typer.Option(metavar="SEED", help="Selection seed, or all; can be repeated. Not needed for a campaign."),
]
WITH = Annotated[
    list[str] | None, typer.Option("--with", metavar="A,B", help="Further columns of your own file to export.")
]
FORMAT = Annotated[
    str | None, typer.Option("--format", help=f"{FORMAT_HELP} Default: csv if --output ends in .csv, else jsonl.")
]
HELD_OUT = Annotated[
    bool, typer.Option("--held-out", help="Export the held-out items without an answer, instead of a list.")
]
DRAFTS = Annotated[
    str | None,
    typer.Option("--drafts", metavar="base|endpoint", help="Add a draft of each answer, for annotators to edit."),
]


@annotations_app.command("export")
def annotations_export(
    experiment: EXPERIMENT,
    budget: BUDGET = None,
    strategy: STRATEGY = None,
    seed: SEED = None,
    with_columns: WITH = None,
    file_format: FORMAT = None,
    output: OUTPUT = None,
    held_out: HELD_OUT = False,
    draft_kind: DRAFTS = None,
    annotators: ANNOTATORS = None,
    overlap: OVERLAP = None,
) -> None:
    """Write a list of the prompts that still need an answer and were not exported before.

    Several lists (strategies, or seeds of a study) are written to one file, which contains each prompt once.
    With --annotators, each of them gets every task in proportion, in a file FILE-NAME.
    Each export is recorded in a ledger, so no prompt is exported twice. If no prompt is left, no file is written.
    """
    with plain_errors():
        format_ = _format(file_format, output)
        drafts.check(draft_kind, is_held_out=held_out)
        if held_out and (budget or strategy or seed):
            raise ValueError(
                "--held-out exports items that belong to no list; leave out --budget, --strategy and --seed"
            )
        chosen = open_experiment(experiment)
        team = _team(Store(chosen.name), annotators or (), overlap)
        lineage, seeds = REGISTRY.look(chosen, Store(chosen.name)), _seeds(seed or ())
        cells: list[Cell] = []
        written = None
        send: Callable[..., exporting.Export]
        if held_out:
            name, send = f"{chosen.name}-held-out", partial(exporting.export_held_out, lineage)
        else:
            cells = _cells(chosen, budget, strategy or chosen.strategies)
            written = drafting.drafts_for(draft_kind, lineage, cells, seeds, _say_who_exports)
            name = _file_name(chosen, cells, seeds)
            send = partial(exporting.export, lineage, cells, seeds, drafts=written)
        path = output or Path(f"{name}.{ENDINGS[format_]}")
        target = exporting.Target(path.absolute(), format_)
        extras = [name.strip() for names in with_columns or () for name in names.split(",")]
        result = send(target, extras=extras, team=team, on_wait=_say_who_exports)
        for finished in result.finished:
            say(f"an interrupted export was completed: {near(finished)}")
        if cells:
            say_warnings(chosen, Filter((cells[0].budget_n,), tuple(c.strategy for c in cells), "annotation_batch"))
        say(*messages.sent(chosen, result), *drafting.sent(chosen, written))
        say(*messages.after_export(chosen, result, target))


@annotations_app.command("ask")
def annotations_ask(experiment: EXPERIMENT, budget: BUDGET = None, strategy: STRATEGY = None) -> None:
    """Let a model answer its share of the prompts, as `annotation: {annotator: …}` of the experiment file says.

    The address is $TASKDIV_ANNOTATOR_URL, the key $TASKDIV_ANNOTATOR_KEY. Replies are stored as they arrive; none is paid twice.
    """
    from taskdiv_assets.annotating.model_answers import ask_annotator
    from taskdiv_assets.commands import model_messages

    with plain_errors():
        chosen = open_experiment(experiment)
        cells = _cells(chosen, budget, strategy or chosen.strategies)
        lineage = REGISTRY.look(chosen, Store(chosen.name))
        result = ask_annotator(lineage, cells, on_wait=_say_who_exports)
        if chosen.annotation.annotator is not None:
            say(*model_messages.asked(chosen, chosen.annotation.annotator, result))
        if result.answers_n:
            _materialise(chosen)
        say(f"next: taskdiv run {chosen.name} --until annotation_batch, then taskdiv annotations export {chosen.name}")


@annotations_app.command("list")
def annotations_list(experiment: EXPERIMENT) -> None:
    """List every import, and every export with its time, its file and its number of answered prompts."""
    from taskdiv_assets.annotating.model_answers import all_replies
    from taskdiv_assets.commands import model_messages

    with plain_errors():
        chosen = open_experiment(experiment)
        store = Store(chosen.name)
        entries = ledger.of_kept_prompts(ledger.entries(store), copies.kept_of(store))
        newest = newest_annotations(store)
        answered = set(newest["prompt_id"].to_pylist())
        if entries:
            out.print(messages.ledger_table(entries, answered))
        for number, entry in enumerate(entries, start=1):
            files = [near(Path(file)) for file, _ in entry.files] or ["not recorded" if entry.prompt_ids else "none"]
            for file in files:
                say(f"file of export {number}: {file}")
        if people := recalling.people(recalling.read(store, entries)):
            out.print(messages.people_table(people))
        if differing_n := len(differing(store)):
            say(messages.which_counts(chosen, differing_n))
        if stored := importing.imports(store):
            out.print(messages.imports_table(stored))
            say(f"each import is a file that is never changed: {store.locate('annotations')}/HASH….parquet")
        say(*drafting.kept(entries, newest))
        say(*model_messages.in_ledger(all_replies(store), chosen.annotation))
        went_out = ledger.sent_prompt_ids(entries)
        answered_n = len(went_out & answered)
        say(f"{len(went_out):,} prompts of {chosen.name} were sent out, {answered_n:,} of them are answered")


@annotations_app.command("rewrite")
def annotations_rewrite(
    experiment: EXPERIMENT,
    export: Annotated[
        int, typer.Argument(metavar="EXPORT", help="Number of the export in `taskdiv annotations list`.")
    ],
    file_format: Annotated[
        str | None, typer.Option("--format", help=f"{FORMAT_HELP} Default: the original one.")
    ] = None,
    output: OUTPUT = None,
) -> None:
    """Write the file of an earlier export again, in the same or another format. The ledger does not change."""
    with plain_errors():
        if file_format is not None:
            check_format(file_format)
        chosen = open_experiment(experiment)
        path = output.absolute() if output else None
        targets, rows_n = exporting.rewrite(Store(chosen.name), export, path, file_format)
        say(f"{rows_n:,} prompts of export {export}, as they were sent out")
        say(*messages.next_with_files(chosen.name, targets))


@annotations_app.command("recall")
def annotations_recall(
    experiment: EXPERIMENT,
    annotator: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Take back what this person has not answered. Default: everybody."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="DAYS", help="Only what was sent so long ago, such as 14d.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Who gets it. Default: all annotators from whom nothing is taken."),
    ] = None,
    file_format: FORMAT = None,
    output: OUTPUT = None,
) -> None:
    """Take back the prompts that annotators have not answered, and deal them to others, one file each.

    Nobody gets a prompt twice. An answer that still comes from the first person is accepted.
    """
    with plain_errors():
        if annotator is None and older_than is None:
            raise ValueError("say what to take back: --annotator NAME, --older-than 14d, or both")
        age = None if older_than is None else _days(older_than)
        format_ = _format(file_format, output)
        chosen = open_experiment(experiment)

        def target(number: int) -> exporting.Target:
            path = output or Path(f"{chosen.name}-recall-{number}.{ENDINGS[format_]}")
            return exporting.Target(path.absolute(), format_)

        result = recalling.recall(
            Store(chosen.name), target, annotator=annotator, older_than=age, to=to or (), on_wait=_say_who_exports
        )
        for finished in result.finished:
            say(f"an interrupted export was completed: {near(finished)}")
        say(*messages.recalled(chosen, result, format_))


@annotations_app.command("import")
def annotations_import(
    experiment_and_file: Annotated[
        list[str], typer.Argument(metavar="[EXPERIMENT] FILE", help=IMPORT_HELP, show_default=False)
    ],
    annotator: Annotated[str | None, typer.Option(help="Who answered, for rows that do not say it.")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=COLUMN,…", help="Columns of FILE for prompt_id, id (your own), response, annotator."
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of FILE, such as cp1252 or utf-16. Default: UTF-8.")
    ] = None,
    accept_valid: Annotated[
        bool, typer.Option("--accept-valid", help="Store the valid rows even if others cannot be used.")
    ] = False,
) -> None:
    """Import annotators' answers. If a row cannot be used, nothing is imported, unless you add --accept-valid.

    A table needs the column response and a column of ids: prompt_id, or the ids of your own file. --columns gives other names.
    Rows that cannot be used are listed in FILE.problems.csv.
    """
    with plain_errors():
        reading = Reading(Names.parse(columns or ()), None if encoding is None else check_encoding(encoding))
        given, path = _given(experiment_and_file)
        chosen, found = _read(given, path, reading)
        lineage = REGISTRY.look(chosen, Store(chosen.name))
        result = importing.import_answers(
            lineage, found, annotator, is_accepting_valid=accept_valid, on_wait=_say_who_exports
        )
        say(*messages.imported(chosen, result, found))
        if result.is_new:
            _materialise(chosen)
        say(f"next: taskdiv run {given or chosen.name}")


def _read(given: str | None, path: Path, reading: Reading) -> tuple[Experiment, AnswerFile]:
    """Return the experiment and the answers of a file. If `given` is None, find the experiment that exported the prompts."""
    data = read_bytes(path)  # a pipe can be read only once
    if given is None:
        of_any = {name for one in importing.stored_experiments() for name in importing.own_id_columns(Store(one))}
        names = reading.names.of_lists(of_any)
        given = importing.find_experiment(read_answers(path, reading._replace(names=names), data))
    chosen = open_experiment(given)
    names = reading.names.of_lists(importing.own_id_columns(Store(chosen.name), chosen))
    return chosen, read_answers(path, reading._replace(names=names), data)


def _format(given: str | None, output: Path | None) -> str:
    """Return the format of an export; by default the ending of the file decides. Raise ValueError if it is unknown."""
    found = given or ("csv" if output and output.suffix.lower() == ".csv" else "jsonl")
    check_format(found)
    return found


def _team(store: Store, annotators: Sequence[str], overlap: float | None) -> exporting.Team | None:
    """Return the annotators of an export; None for an export in one file. Raise ValueError for a name that cannot be used."""
    if not annotators:
        if overlap is not None:
            raise ValueError("--overlap needs --annotators: the people among whom the prompts are dealt out")
        return None
    known = recalling.read(store).names.values()
    return exporting.Team(check_names(annotators, known), overlap or 0.0)


def _days(text: str) -> timedelta:
    if not re.fullmatch(r"\d{1,5}d", text, re.ASCII):
        raise ValueError(f"--older-than {text!r} is not a number of days; expected one such as 14d")
    return timedelta(days=int(text[:-1]))


def _cells(experiment: Experiment, budget: str | None, strategies: Sequence[str]) -> list[Cell]:
    """Return the cells of one budget. Raise ValueError for an unknown strategy or budget, or if several budgets match None."""
    names = list(dict.fromkeys(strategies))
    numbers = check_filters(experiment, [] if budget is None else [budget], names)
    budget_n = numbers[0] if numbers else _only_budget(experiment)
    known = registered(experiment, Store(experiment.name))
    if budget_n not in known:
        raise ValueError(
            f"{budget_n} is not a budget of {experiment.name} ({', '.join(map(str, known))}); "
            f"`taskdiv budget add {experiment.name} {budget_n}`, "
            f"then `taskdiv run {experiment.name} --until annotation_batch`"
        )
    return [Cell(budget_n, name) for name in names]


def _only_budget(experiment: Experiment) -> int:
    found = [n for n, kind in registered(experiment, Store(experiment.name)).items() if kind != "full_pool"]
    if len(found) != 1:
        choices = " or ".join(f"--budget {n}" for n in found)
        raise ValueError(f"{experiment.name} has {len(found)} budgets; choose one: {choices}")
    return found[0]


def _seeds(given: Sequence[str]) -> Seeds:
    if not given:
        return None
    if "all" in given:
        return "all"
    wrong = [text for text in given if not re.fullmatch(r"\d{1,18}", text, re.ASCII)]
    if wrong:
        raise ValueError(f"--seed {wrong[0]!r} is not a seed; expected a whole number, or all")
    return tuple(map(int, given))


def _file_name(experiment: Experiment, cells: Sequence[Cell], seeds: Seeds) -> str:
    of_strategy = f"-{cells[0].strategy}" if len(cells) == 1 else ""
    of_seed = "" if seeds is None else "-seeds" if seeds == "all" else "-seed" + "-".join(map(str, seeds))
    return f"{experiment.name}{of_strategy}-{cells[0].budget_n}{of_seed}"


def _given(arguments: Sequence[str]) -> tuple[str | None, Path]:
    """Return the experiment (None if it is left out) and the file that the arguments of an import name."""
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
    quietly()
    tables = ("annotations", *(["held_out_items"] if experiment.has_later_answers else []))
    with instance.open_instance():
        outcome = execute(experiment.name, Task("pool", tables, None))
    if not outcome.is_success:
        fail(f"the answers are stored, but {' and '.join(tables)} could not be computed: {outcome.message}", code=1)


def _say_who_exports(holder: str) -> None:
    note(f"another export or import of this experiment is running ({holder}); waiting for it")
