"""The `taskdiv` command line. `taskdiv run` computes the same assets as Dagster's UI. Many commands print what to run next."""

from __future__ import annotations

from taskdiv_assets.commands import early

# isort: split
import os
import sys
from typing import Annotated

import typer
from rich.table import Table

from taskdiv_assets import __version__
from taskdiv_assets.annotating import gone
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import forecast_plan, planning, power_plan, preflight, running, stopping
from taskdiv_assets.commands.adapter_commands import adapters_app
from taskdiv_assets.commands.annotation_commands import annotations_app
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.commands.comparing import compare
from taskdiv_assets.commands.consoles import console, escaped, note, out, plain_errors, quietly, say
from taskdiv_assets.commands.experiment_commands import experiments_app, schema
from taskdiv_assets.commands.init import init
from taskdiv_assets.commands.next_steps import next_lines
from taskdiv_assets.commands.opening import (
    BUDGETS,
    EXPERIMENT,
    STRATEGY,
    check_filters,
    open_experiment,
    say_ignored,
    say_warnings,
)
from taskdiv_assets.commands.report_command import report, say_where
from taskdiv_assets.commands.round_commands import round_app
from taskdiv_assets.commands.task_commands import tasks_app
from taskdiv_assets.commands.terminal import RunDisplay, print_plan, waiting_lines
from taskdiv_assets.commands.training_export import export
from taskdiv_assets.commands.ui import ui
from taskdiv_assets.commands.verdict_commands import verdicts_app
from taskdiv_assets.commands.wanted import Filter, refuse_unregistered
from taskdiv_assets.experiment import Experiment, parse_budget
from taskdiv_assets.graph.cells import registered
from taskdiv_assets.orchestration import instance
from taskdiv_assets.storage.store import Store, home

app = typer.Typer(
    help="Choose which prompts to annotate before fine-tuning, and measure whether the choice was good.\n\n"
    "EXPERIMENT is the name of a built-in experiment (demo, demo_quick, dolly, dolly_small, flan) or of a stored one, or the "
    "path of a YAML file. Results are stored in $TASKDIV_HOME (default: .taskdiv in this folder).\n\n"
    "Start with your own prompts: taskdiv init questions.csv\n\n"
    "Or with a demonstration: taskdiv run demo_quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
budget_app = typer.Typer(help="Add, remove and list budgets: numbers of prompts to annotate.", no_args_is_help=True)
contracts_app = typer.Typer(help="Check stored tables against their data contracts.", no_args_is_help=True)
app.command()(init)
app.add_typer(experiments_app, name="experiments")
app.add_typer(adapters_app, name="adapters")
app.command()(export)
app.command()(schema)
app.command()(compare)
app.add_typer(budget_app, name="budget")
app.add_typer(round_app, name="round")
app.add_typer(tasks_app, name="tasks")
app.add_typer(annotations_app, name="annotations")
app.add_typer(verdicts_app, name="verdicts")
app.add_typer(contracts_app, name="contracts")
app.command()(ui)


def show_version(is_asked: bool) -> None:
    if is_asked:
        say(f"taskdiv-assets {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Accept the options that come before a command. The help text is in `app`."""


@app.command()
def run(
    experiment: EXPERIMENT,
    budget: BUDGETS = None,
    strategy: STRATEGY = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; default: one per core, at most 4.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this asset, e.g. annotation_batch: lists only.")] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", "--yes", "-y", help="Accept an edited file without asking, and recompute its results."
        ),
    ] = False,
) -> None:
    """Compute the results that are missing or out of date, show the progress, and print the path of the report.

    Finished results are kept. After Ctrl-C, or with a new budget, the same command computes only the missing results.
    If a cell lacks answers, its list of prompts is made, but no adapter is trained.
    """
    with plain_errors():
        with stopping.ended_by_sigterm():
            chosen, wanted = _wanted(experiment, budget, strategy, until, with_notes=False)
            preflight.refuse_other_tasks(REGISTRY.look(chosen, Store(chosen.name)))
            open_experiment(experiment, replace=replace)  # stores the file, after the checks above
            workers_n = workers or min(os.cpu_count() or 1, 4)
            quietly()
            with instance.open_instance(workers_n) as dagster_instance, RunDisplay(console, chosen.name) as display:
                store = Store(chosen.name)
                added_in_ui = [number for number in wanted.budgets if number not in registered(chosen, store)]
                running.register_budgets(chosen, store, dagster_instance, added_in_ui)
                ran = running.run(chosen, dagster_instance, wanted, workers_n=workers_n, tell=display.tell)
        failed = [outcome for outcome in ran.outcomes if not outcome.is_success]
        for outcome in failed:
            console.print(f"[bold red]failed:[/] {escaped(outcome.name)}: {escaped(outcome.message)}", soft_wrap=True)
        say_warnings(chosen, wanted)
        note(*waiting_lines(ran.waiting, ran.blocked))
        console.print(display.summary(ran.outcomes))
        say_where(chosen, until)
        if failed:
            raise typer.Exit(1)
        if chosen.purpose == "campaign" or chosen.has_later_answers:
            _say_next(chosen, wanted, chosen.name)


def _wanted(
    source: str, budget: list[str] | None, strategy: list[str] | None, until: str | None, *, with_notes: bool
) -> tuple[Experiment, Filter]:
    """Return the experiment, and the part of it that the options select. The store is not changed."""
    chosen = open_experiment(source, is_kept=False, with_notes=with_notes)
    say_ignored(chosen)
    numbers = tuple(map(parse_budget, budget or ()))
    check_filters(chosen, None, strategy)
    known = registered(chosen, Store(chosen.name))
    added = {number for number in numbers if number not in known}
    check_filters(chosen, [str(number) for number in added], None)
    if added:  # a budget that was added in the UI reaches the store only when its first cell is computed
        in_ui = instance.budgets_of_ui(chosen.name)
        refuse_unregistered(chosen, {*known, *(n for n in added if str(n) in in_ui)}, numbers, source)
    wanted = Filter(numbers, tuple(strategy or ()), until)
    wanted.assets(chosen)
    return chosen, wanted


def _say_next(experiment: Experiment, wanted: Filter, called: str) -> None:
    found = planning.plan(experiment, Store(experiment.name), wanted._replace(until=None))
    _say_gone(found)
    say(*next_lines(called, wanted.options, found.standing))


def _say_gone(found: planning.Plan) -> None:
    if gone_n := found.standing.gone_n:
        note(f"note: {gone.sentence(gone_n)}")


@app.command()
def plan(
    experiment: EXPERIMENT,
    budget: BUDGETS = None,
    strategy: STRATEGY = None,
    variance_of: Annotated[
        str, typer.Option(metavar="EXPERIMENT", help="Take the variance of scores from this scored experiment.")
    ] = "",
    difference: Annotated[
        float | None,
        typer.Option(metavar="D", min=0.0005, max=1.0, help="Say how many seeds or items show a difference of D."),
    ] = None,
) -> None:
    """Show what `run` would compute, check the input, and print the next command. Nothing is stored.

    Among others, the plan shows missing cells, prompts to score, labels to buy, tokens to train, disk space, time and memory.
    It also says which difference between two strategies the run can show, by the variance of another experiment or of the demo.
    The checks cover the pool, its tasks, your own orders, the budgets, a local base model and the benchmarks.
    If a check fails, no plan is shown, and the exit code is 2.
    """
    with plain_errors():
        chosen, wanted = _wanted(experiment, budget, strategy, None, with_notes=True)
        store = Store(chosen.name)
        looked = preflight.look(chosen, store, wanted)
        note(*looked.warnings)
        for problem in looked.errors:
            console.print(f"[bold red]error:[/] {escaped(problem)}", soft_wrap=True)
        if looked.errors:
            raise typer.Exit(2)
        say_warnings(chosen, wanted)
        found = planning.plan(chosen, store, wanted, looked.pool, looked.texts)
        variants = planning.variant_lines(chosen, store, looked.pool) if wanted == Filter() else {}
        steps = next_lines(experiment, wanted.options, found.standing)
        shown = power_plan.lines(chosen, found.benchmarks, variance_of, difference)
        if not steps and not all(variants.values()):
            steps = [f"next: taskdiv run {experiment}"]
        rounds = planning.round_lines(chosen, store, looked.pool)
        print_plan(out, chosen, found, steps, [*shown, *forecast_plan.lines(store), *rounds, *variants])
        _say_gone(found)
        if found.standing.is_done:
            say_where(chosen)


app.command()(report)


@budget_app.command("add")
def budget_add(
    experiment: EXPERIMENT, budget: Annotated[list[str], typer.Argument(metavar="N…", help="Numbers of prompts.")]
) -> None:
    """Add budgets to an experiment, in the store and in the UI. The next `taskdiv run` includes their cells."""
    with plain_errors():
        chosen = open_experiment(experiment)
        say_ignored(chosen)
        numbers = check_filters(chosen, budget, None)
        if REGISTRY.look(chosen, Store(chosen.name)).pool_size is None:
            raise ValueError(
                f"the pool of {chosen.name} has not been read yet, so no budget can be checked against it; "
                f"run `taskdiv run {experiment} --until raw_pool` first"
            )
        quietly()
        with instance.open_instance() as dagster_instance:
            added = running.register_budgets(chosen, Store(chosen.name), dagster_instance, numbers)
        out.print(f"registered: {', '.join(map(str, sorted(set(numbers))))} ({len(added)} new in Dagster)")
        _say_next(chosen, Filter(), experiment)


@budget_app.command("remove")
def budget_remove(
    experiment: EXPERIMENT, budget: Annotated[str, typer.Argument(metavar="N", help="The budget.")]
) -> None:
    """Remove an added budget. The stored results of the budget are kept."""
    with plain_errors():
        chosen = open_experiment(experiment)
        say_ignored(chosen)
        store = Store(chosen.name)
        budget_n = parse_budget(budget)
        if budget_n in chosen.budgets:
            raise ValueError(f"budget {budget_n} is in the experiment file of {chosen.name}; remove it there")
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
    """List the budgets, each with its kind and its number of finished cells."""
    with plain_errors():
        chosen = open_experiment(experiment)
        say_ignored(chosen)
        table = Table("budget", "kind", "cells scored")
        for budget_n, kind, done_n, expected_n in planning.budgets(chosen, Store(chosen.name)):
            table.add_row(str(budget_n), kind.replace("_", " "), f"{done_n} of {expected_n}")
        out.print(table)


@contracts_app.command("check")
def contracts_check(experiment: EXPERIMENT) -> None:
    """Check every stored table against its data contract, and print each rule that a table breaks.

    The exit code is 1 if a rule of severity `error` is broken.
    If inputs, settings or code have changed, a table is out of date, not broken. `taskdiv run` computes it again.
    """
    with plain_errors():
        chosen = open_experiment(experiment)
        checked = list(check_stored(chosen, Store(chosen.name)))
        if not checked:
            raise ValueError(f"nothing is stored for {chosen.name} in {home()}; start with `taskdiv run {experiment}`")
        for entry in checked:
            unit = escaped(entry.name)
            for rule in entry.failed:
                mark = "[bold red]broken[/]" if rule.severity == "error" else "[yellow]look[/]"
                out.print(f"{mark} {unit}: {rule.rule}: {escaped(rule.observed)} ({rule.description})")
            if entry.out_of_date:
                out.print(f"[dim]out of date[/] {unit}: {escaped(entry.out_of_date)}")
        broken = sum(rule.severity == "error" for entry in checked for rule in entry.failed)
        old_n = sum(bool(entry.out_of_date) for entry in checked)
        out.print(f"{len(checked)} tables checked, {old_n} of them out of date; {broken} error rule(s) broken")
        if old_n and not broken:
            out.print(f"next: taskdiv run {escaped(chosen.name)}")
        if broken:
            raise typer.Exit(1)


@app.command()
def doctor(
    offline: Annotated[
        bool, typer.Option("--offline", help="Skip the checks of the hub and of a remote store.")
    ] = False,
) -> None:
    """List the environment variables that taskdiv reads, check this machine, and print how to correct each problem.

    Among others, the checks cover Python, packages, Dagster's home, storage, experiments, judge, torch, GPUs and the hub.
    Each result is `well`, `look` (it works, but not for everything) or `broken`.
    The exit code is 1 if anything is broken. No key or token is printed.
    Only probe files are written; they are removed if the storage permits it.
    """
    from taskdiv_assets.commands.doctor import examine, print_findings, print_settings

    with plain_errors():
        print_settings(out, os.environ)
        if print_findings(out, examine(os.environ, is_offline=offline)):
            raise typer.Exit(1)


@app.command()
def home_folder() -> None:
    """Print the folder of Dagster's records, and create it if it is missing.

    The folder is $DAGSTER_HOME, or .taskdiv/dagster in the current folder if $DAGSTER_HOME is not set.
    Dagster's UI shows the runs of `taskdiv run` only if $DAGSTER_HOME is this folder.

    Example: export DAGSTER_HOME="$(taskdiv home-folder)" && dagster dev -m taskdiv_assets.definitions
    """
    with plain_errors():
        say(str(instance.make_home()))


def main() -> None:
    """Run the `taskdiv` script, and skip the interpreter's shutdown.

    In about one of a hundred runs, a reader thread of pyarrow was still alive at the shutdown and aborted the process: the exit
    code was -6 instead of 2. Skipping is safe, because all files are closed when a command returns.
    """
    code = 0
    early.is_over()
    try:
        app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
