"""The `taskdiv` command: thin over the same assets that the UI shows. Every command says what to do next."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from taskdiv_assets import experiment_file
from taskdiv_assets.cells import Cell
from taskdiv_assets.experiment import Experiment, parse_budget
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.store import Store, home

app = typer.Typer(
    help="Choose which prompts to have annotated before fine-tuning, and measure whether the choice was good.\n\n"
    "EXPERIMENT is the name of a built-in experiment (demo, demo_quick, dolly, flan) or the path of a YAML file. "
    "Results lie in $TASKDIV_HOME (default: .taskdiv in this folder).\n\n"
    "Start with: taskdiv run demo_quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
budget_app = typer.Typer(help="The budgets of an experiment: how many prompts to have annotated.", no_args_is_help=True)
annotations_app = typer.Typer(help="Send prompts to annotators, and bring answers back.", no_args_is_help=True)
contracts_app = typer.Typer(help="The data contracts of the stored tables.", no_args_is_help=True)
app.add_typer(budget_app, name="budget")
app.add_typer(annotations_app, name="annotations")
app.add_typer(contracts_app, name="contracts")

EXPERIMENT = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="Name of a built-in one, or path of a YAML file.")
]
BUDGETS = Annotated[list[str] | None, typer.Option("--budget", metavar="N", help="Only this budget; may be repeated.")]
STRATEGY = Annotated[list[str] | None, typer.Option("--strategy", metavar="S", help="Only this one; may be repeated.")]
console = Console(stderr=True, highlight=False)
out = Console(highlight=False, soft_wrap=True)


@contextmanager
def said_plainly() -> Iterator[None]:
    """A mistake of the user's is a sentence on stderr and exit code 2, never a stack of frames."""
    try:
        yield
    except typer.Exit:  # a RuntimeError too
        raise
    except (ValueError, RuntimeError, ImportError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error}; check the path, $TASKDIV_HOME ({home()}) and $DAGSTER_HOME")
    except KeyboardInterrupt:
        console.print("\nstopped; what was finished is kept. The same command goes on where it stopped.")
        raise typer.Exit(130) from None


def quietly() -> None:
    """Keep the notices of libraries off the terminal."""
    from taskdiv_assets import workers

    workers.quiet()
    os.environ.setdefault("TASKDIV_QUIET", "1")


def fail(message: str, code: int = 2) -> NoReturn:
    """Print a sentence and end."""
    console.print(f"[bold red]error:[/] {_escaped(message)}", soft_wrap=True)
    raise typer.Exit(code)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def open_experiment(source: str, *, replace: bool = False) -> Experiment:
    """An experiment by name or path; a path is copied to the store, so that the UI shows it too.

    Raises:
        ValueError: mistakes in the file, or another file of that name was used before.
    """
    names = experiment_file.built_in_names()
    if source not in names and not source.endswith((".yaml", ".yml")):
        stored = Store(source).locate("experiment.yaml")
        if Store(source).get("experiment.yaml") is None:
            return experiment_file.load(source)  # raises, with the names that there are
        source = stored
    text, origin = experiment_file.read_text(source)
    experiment = experiment_file.parse(text, origin)
    if source in names or source == Store(experiment.name).locate("experiment.yaml"):
        return experiment
    if experiment.name in names:
        raise ValueError(f"{source}: the name {experiment.name!r} is a built-in experiment's; choose another `name:`")
    store = Store(experiment.name)
    kept = f"{experiment_file.ORIGIN}{origin if '://' in origin else Path(origin).resolve()}\n{text}".encode()
    stored_text = store.get("experiment.yaml")
    if stored_text is not None and stored_text.partition(b"\n")[2] != kept.partition(b"\n")[2] and not replace:
        raise ValueError(
            f"{store.locate('experiment.yaml')} holds another experiment of the name {experiment.name!r}; "
            "give yours another name, or say --replace: results that still fit are kept and found again"
        )
    if stored_text != kept:
        store.put(kept, "experiment.yaml")
    return experiment


def check_filters(experiment: Experiment, budgets: list[str] | None, strategies: list[str] | None) -> tuple[int, ...]:
    """Budgets as numbers, after every filter was found to make sense."""
    numbers = tuple(parse_budget(text) for text in budgets or ())
    for number in numbers:
        check_budget(experiment, number)
    for name in strategies or ():
        if name not in STRATEGIES:
            raise ValueError(f"unknown strategy {name!r}; expected one of {', '.join(STRATEGIES)}")
        if name not in experiment.strategies:
            raise ValueError(
                f"strategy {name!r} is not in {experiment.name}; it has {', '.join(experiment.strategies)}"
            )
    return numbers


def check_budget(experiment: Experiment, budget_n: int) -> None:
    """A budget is at most the pool, as soon as the pool is known."""
    from taskdiv_assets.lineage import Lineage

    pool = Lineage(experiment, Store(experiment.name)).pool_size
    has_full_pool = bool(experiment.full_pool_seeds) and budget_n not in experiment.budgets
    if pool is not None and budget_n == pool.prompts_n and has_full_pool:
        raise ValueError(
            f"budget {budget_n} is the whole pool of {experiment.name}: that is a cell already, under `random`"
        )
    if pool is not None and budget_n > pool.prompts_n:
        raise ValueError(
            f"budget {budget_n} is larger than the pool of {experiment.name}, {pool.prompts_n} prompts; "
            f"expected at most {pool.prompts_n}"
        )


@app.command()
def run(
    experiment: EXPERIMENT,
    budget: BUDGETS = None,
    strategy: STRATEGY = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one a core, at most 4 of them.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this asset, e.g. annotation_batch: lists only.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Use this file in place of a stored one of its name.")
    ] = False,
) -> None:
    """Materialise what is missing, with progress, and print the report's path last.

    What is finished is not done again: after Ctrl-C, or with a new budget, the same command goes on with the rest.
    """
    from taskdiv_assets import instance, running
    from taskdiv_assets.terminal import RunDisplay
    from taskdiv_assets.units import ORDER

    with said_plainly():
        chosen = open_experiment(experiment, replace=replace)
        numbers = check_filters(chosen, budget, strategy)
        if until is not None and until not in ORDER:
            raise ValueError(f"there is no asset {until!r}; expected one of {', '.join(ORDER)}")
        workers_n = workers or min(os.cpu_count() or 1, 4)
        quietly()
        with instance.open_instance(workers_n) as dagster_instance, RunDisplay(console, chosen.name) as display:
            wanted = running.Filter(numbers, tuple(strategy or ()), until)
            outcomes = running.run(chosen, dagster_instance, wanted, workers_n=workers_n, tell=display.tell)
        failed = [outcome for outcome in outcomes if not outcome.is_success]
        for outcome in failed:
            console.print(f"[bold red]failed:[/] {_escaped(outcome.name)}: {_escaped(outcome.message)}", soft_wrap=True)
        console.print(display.summary(outcomes))
        say_where(chosen, until)
        if failed:
            raise typer.Exit(1)


def say_where(experiment: Experiment, until: str | None = None) -> None:
    """The last line: where to look."""
    store = Store(experiment.name)
    if until is None or until == "strategy_report":
        if store.get("report", "index.html") is None:
            console.print("no report yet: nothing has been scored")
        else:
            out.print(f"report: {store.locate('report', 'index.html')}")
    else:
        out.print(f"tables: {store.locate('tables', until)}")


@app.command()
def plan(
    experiment: EXPERIMENT,
    replace: Annotated[
        bool, typer.Option("--replace", help="Use this file in place of a stored one of its name.")
    ] = False,
) -> None:
    """Say what `run` would do: cells done and missing, prompts to score, labels to buy, tokens to train, disk, time."""
    from taskdiv_assets.planning import plan as make_plan
    from taskdiv_assets.terminal import print_plan

    with said_plainly():
        chosen = open_experiment(experiment, replace=replace)
        print_plan(out, chosen, make_plan(chosen, Store(chosen.name)))


@app.command()
def report(experiment: EXPERIMENT) -> None:
    """Make the report anew from what is stored, and print its path."""
    from taskdiv_assets import instance, workers

    with said_plainly():
        chosen = open_experiment(experiment)
        if Store(chosen.name).read_footer("raw_pool") is None:
            raise ValueError(f"nothing is stored for {chosen.name} in {home()}; start with `taskdiv run {experiment}`")
        quietly()
        with instance.open_instance():
            outcome = workers.execute(chosen.name, workers.Task("report", ("strategy_report",), None))
        if not outcome.is_success:
            fail(outcome.message, code=1)
        say_where(chosen)


@budget_app.command("add")
def budget_add(experiment: EXPERIMENT, budget: Annotated[list[str], typer.Argument(metavar="N…")]) -> None:
    """Register budgets, in the store and in the UI. `taskdiv run` then does their cells only."""
    from taskdiv_assets import instance, running
    from taskdiv_assets.lineage import Lineage

    with said_plainly():
        chosen = open_experiment(experiment)
        numbers = check_filters(chosen, budget, None)
        if Lineage(chosen, Store(chosen.name)).pool_size is None:
            raise ValueError(
                f"the pool of {chosen.name} has not been read yet, so no budget can be checked against it; "
                f"run `taskdiv run {experiment} --until raw_pool` first"
            )
        quietly()
        with instance.open_instance() as dagster_instance:
            added = running.register_budgets(chosen, Store(chosen.name), dagster_instance, numbers)
        out.print(f"registered: {', '.join(map(str, sorted(set(numbers))))} ({len(added)} new in Dagster)")
        out.print(f"next: taskdiv run {experiment}")


@budget_app.command("remove")
def budget_remove(experiment: EXPERIMENT, budget: Annotated[str, typer.Argument(metavar="N")]) -> None:
    """Forget a budget that was added: it is no longer expected. Tables that were made for it stay."""
    from taskdiv_assets import instance

    with said_plainly():
        chosen = open_experiment(experiment)
        store = Store(chosen.name)
        budget_n = parse_budget(budget)
        if budget_n in chosen.budgets:
            raise ValueError(f"budget {budget_n} stands in the experiment file of {chosen.name}; remove it there")
        if budget not in store.names("budgets"):
            raise ValueError(
                f"budget {budget_n} is not registered for {chosen.name}; see `taskdiv budget list {experiment}`"
            )
        store.remove("budgets", budget)
        quietly()
        with instance.open_instance() as dagster_instance:
            dagster_instance.delete_dynamic_partition(f"{chosen.name}_budget", budget)
        out.print(f"removed: {budget_n}")


@budget_app.command("list")
def budget_list(experiment: EXPERIMENT) -> None:
    """List the budgets with the number of cells that are scored."""
    from taskdiv_assets.planning import budgets

    with said_plainly():
        chosen = open_experiment(experiment)
        table = Table("budget", "kind", "cells scored")
        for budget_n, kind, done_n, expected_n in budgets(chosen, Store(chosen.name)):
            table.add_row(str(budget_n), kind.replace("_", " "), f"{done_n} of {expected_n}")
        out.print(table)


@annotations_app.command("export")
def annotations_export(
    experiment: EXPERIMENT,
    budget: Annotated[str, typer.Option(metavar="N", help="The budget whose prompts go out.")],
    strategy: Annotated[str, typer.Option(metavar="S", help="The strategy that chose them.")],
    seed: Annotated[int | None, typer.Option(help="Selection seed; a study has one list per seed.")] = None,
    format: Annotated[str, typer.Option(help="jsonl or csv.")] = "jsonl",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; default: a name of its own.")
    ] = None,
) -> None:
    """Write the prompts of one cell that still need an answer and were not sent out before."""
    from taskdiv_assets import annotating

    with said_plainly():
        chosen = open_experiment(experiment)
        (budget_n,) = check_filters(chosen, [budget], [strategy])
        if format not in ("jsonl", "csv"):
            raise ValueError(f"unknown format {format!r}; expected jsonl or csv")
        path = output or Path(f"{chosen.name}-{strategy}-{budget_n}.{format}")
        if path.exists():
            raise ValueError(f"{path} is there already; move it away, or choose another name with --output")
        store = Store(chosen.name)

        def write(rows: list[dict[str, Any]]) -> None:
            temporary = path.with_name(f"{path.name}.part")
            temporary.write_bytes(annotating.render(rows, format))
            temporary.replace(path)

        result = annotating.export(chosen, store, Cell(budget_n, strategy), seed, write)
        price = chosen.annotation.price
        cost = "" if price is None else f", {len(result.rows) * price:,.2f} at {price} each"
        out.print(f"{len(result.rows)} prompts to annotate{cost}; {result.already_sent_n} were sent out before")
        if result.rows:
            out.print(f"file: {path}")


@annotations_app.command("import")
def annotations_import(
    experiment: EXPERIMENT,
    file: Annotated[Path, typer.Argument(help="Answers as .jsonl or .csv, with prompt_id and response.")],
    annotator: Annotated[str | None, typer.Option(help="Who answered, where the file does not say.")] = None,
) -> None:
    """Store annotators' answers: all of them, or none if a row cannot be used."""
    from taskdiv_assets import annotating, instance, workers

    with said_plainly():
        chosen = open_experiment(experiment)
        result = annotating.import_answers(chosen, Store(chosen.name), annotating.read_answers(file), annotator)
        said = f"imported {result.rows_n} answers" if result.is_new else f"{result.rows_n} answers were imported before"
        out.print(f"{said} (batch {result.batch[:12]})")
        if result.is_new:
            quietly()
            with instance.open_instance():
                outcome = workers.execute(chosen.name, workers.Task("pool", ("annotations",), None))
            if not outcome.is_success:
                fail(f"the answers are stored, but their table could not be made: {outcome.message}", code=1)
        out.print(f"next: taskdiv run {experiment}")


@contracts_app.command("check")
def contracts_check(experiment: EXPERIMENT) -> None:
    """Validate what is stored against its contracts; exit code 1 and the broken rule if something is not well."""
    from taskdiv_assets.checking import check_stored

    with said_plainly():
        chosen = open_experiment(experiment)
        checked = list(check_stored(chosen, Store(chosen.name)))
        if not checked:
            raise ValueError(f"nothing is stored for {chosen.name} in {home()}; start with `taskdiv run {experiment}`")
        broken = 0
        for entry in checked:
            for rule in entry.failed:
                mark = "[bold red]broken[/]" if rule.severity == "error" else "[yellow]look[/]"
                out.print(
                    f"{mark} {_escaped(str(entry.unit))}: {rule.rule}: {_escaped(rule.observed)} ({rule.description})"
                )
                broken += rule.severity == "error"
        checked_n = sum(entry.is_checked for entry in checked)
        unchecked = "" if checked_n == len(checked) else f", {len(checked) - checked_n} not, since their inputs changed"
        out.print(f"{checked_n} tables checked{unchecked}; {broken} error rule(s) broken")
        if broken:
            raise typer.Exit(1)


@app.command(hidden=True)
def home_folder() -> None:
    """Set up Dagster's home and print it: for `make ui`."""
    from taskdiv_assets.instance import prepare_home

    out.print(str(prepare_home()))


def main() -> None:
    """Entry point of the `taskdiv` script.

    Everything is closed and written when a command returns. The interpreter's own tear-down is left out: once in some
    hundred times a reader thread of pyarrow was still there and aborted it, and a refusal ended with code -6 in place of 2.
    """
    code = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
