"""The `taskdiv adapters` commands. They list the trained adapters, print an adapter's folder, and copy an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from taskdiv_assets.commands import trained_adapters
from taskdiv_assets.commands.consoles import note, out, plain_errors, say
from taskdiv_assets.commands.opening import EXPERIMENT, open_experiment
from taskdiv_assets.commands.trained_adapters import Adapter
from taskdiv_assets.experiment import parse_budget
from taskdiv_assets.storage.store import Store

adapters_app = typer.Typer(help="List, locate and export trained adapters.", no_args_is_help=True)
BUDGET = Annotated[str | None, typer.Option("--budget", metavar="N", help="Budget of the adapter.")]
STRATEGY = Annotated[str | None, typer.Option("--strategy", metavar="S", help="Strategy of the adapter.")]
SEED = Annotated[int | None, typer.Option("--seed", metavar="K", help="Training seed of the adapter.")]
FOLDER = Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")]


@adapters_app.command("list")
def adapters_list(experiment: EXPERIMENT) -> None:
    """List the trained adapters by budget, strategy and seed, each with its examples, final loss and folder.

    Example: taskdiv adapters list demo_quick
    """
    with plain_errors():
        chosen = open_experiment(experiment)
        store = Store(chosen.name)
        table = Table("budget", "strategy", "seed", "examples", "loss", "")
        table.add_column("folder", no_wrap=True, min_width=32)  # users copy the complete identity
        for one in trained_adapters.adapters(chosen, store):
            numbers = (one.seed, f"{one.examples_n:,}", f"{one.final_loss:.3f}")
            values = (*one.cell, *numbers, "" if one.is_fresh else "out of date", one.identity)
            table.add_row(*(escape(str(value)) for value in values))
        if table.rows:
            out.print(table)
            say(f"the folders are in {store.locate('folders')}")
        else:
            say(trained_adapters.none_stored(store))


@adapters_app.command("path")
def adapters_path(experiment: EXPERIMENT, budget: BUDGET = None, strategy: STRATEGY = None, seed: SEED = None) -> None:
    """Print the folder of one adapter: a path, or a URL on an object store.

    Example: taskdiv adapters path demo_quick --budget 256 --strategy random --seed 0
    """
    with plain_errors():
        store, one = _find(experiment, budget, strategy, seed)
        say(store.locate("folders", one.identity))


@adapters_app.command("export")
def adapters_export(
    experiment: EXPERIMENT, folder: FOLDER, budget: BUDGET = None, strategy: STRATEGY = None, seed: SEED = None
) -> None:
    """Copy one adapter or fully tuned model, with its README.md, to a new folder. Nothing is overwritten.

    Example: taskdiv adapters export demo_quick my_adapter --budget 256 --strategy random --seed 0
    """
    with plain_errors():
        store, one = _find(experiment, budget, strategy, seed)
        target = folder.expanduser().absolute()
        files_n = trained_adapters.export(store, one, target)
        say(f"{one.cell.key}, seed {one.seed}: {files_n} files")
        say(f"folder: {target}")


def _find(experiment: str, budget: str | None, strategy: str | None, seed: int | None) -> tuple[Store, Adapter]:
    chosen = open_experiment(experiment)
    store = Store(chosen.name)
    one = trained_adapters.find(chosen, store, None if budget is None else parse_budget(budget), strategy, seed)
    if not one.is_fresh:
        made = f"{one.cell.key}, seed {one.seed} was made from older settings or inputs"
        note(f"note: {made}; `taskdiv run {chosen.name}` makes it again")
    return store, one
