"""The `taskdiv adapters` commands: which adapters were trained, where they lie, and a copy of one to take away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from taskdiv_assets.commands.consoles import console, out, plain_errors
from taskdiv_assets.commands.opening import EXPERIMENT, open_experiment
from taskdiv_assets.experiment import parse_budget
from taskdiv_assets.storage.store import Store

if TYPE_CHECKING:
    from taskdiv_assets.commands.trained_adapters import Adapter

adapters_app = typer.Typer(help="The trained adapters: list, path, export.", no_args_is_help=True)
BUDGET = Annotated[str | None, typer.Option("--budget", metavar="N", help="Of this budget.")]
STRATEGY = Annotated[str | None, typer.Option("--strategy", metavar="S", help="Of this strategy.")]
SEED = Annotated[int | None, typer.Option("--seed", metavar="K", help="Of this training seed.")]
FOLDER = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is not there yet.")]


@adapters_app.command("list")
def adapters_list(experiment: EXPERIMENT) -> None:
    """List the trained adapters by budget, strategy and seed: examples, loss of the last step, folder.

    Example: taskdiv adapters list demo_quick
    """
    from taskdiv_assets.commands import trained_adapters

    with plain_errors():
        chosen = open_experiment(experiment)
        store = Store(chosen.name)
        table = Table("budget", "strategy", "seed", "examples", "loss", "")
        table.add_column("folder", no_wrap=True, min_width=32)  # an identity is copied whole
        every = list(trained_adapters.adapters(chosen, store))
        for one in every:
            state = "" if one.is_fresh else "out of date"
            row = (
                one.cell.budget_n,
                one.cell.strategy,
                one.seed,
                f"{one.examples_n:,}",
                f"{one.final_loss:.3f}",
                state,
            )
            table.add_row(*(escape(str(value)) for value in (*row, one.identity)))
        if every:
            out.print(table)
            out.print(f"folders lie in {store.locate('folders')}", markup=False)
        else:
            out.print(
                f"no adapter of {chosen.name} is stored in {store.url}; `taskdiv run {chosen.name}` trains them",
                markup=False,
            )


@adapters_app.command("path")
def adapters_path(experiment: EXPERIMENT, budget: BUDGET = None, strategy: STRATEGY = None, seed: SEED = None) -> None:
    """Print the folder of one adapter: a path, or a URL on an object store.

    Example: taskdiv adapters path demo_quick --budget 256 --strategy random --seed 0
    """
    with plain_errors():
        store, one = _find(experiment, budget, strategy, seed)
        out.print(store.locate("folders", one.identity), markup=False)


@adapters_app.command("export")
def adapters_export(
    experiment: EXPERIMENT, folder: FOLDER, budget: BUDGET = None, strategy: STRATEGY = None, seed: SEED = None
) -> None:
    """Copy one adapter with its README.md to a new folder, which PEFT loads. Nothing is overwritten.

    Example: taskdiv adapters export demo_quick my_adapter --budget 256 --strategy random --seed 0
    """
    from taskdiv_assets.commands import trained_adapters

    with plain_errors():
        store, one = _find(experiment, budget, strategy, seed)
        target = folder.expanduser().absolute()
        files_n = trained_adapters.export(store, one, target)
        out.print(f"{one.cell.key}, seed {one.seed}: {files_n} files", markup=False)
        out.print(f"folder: {target}", markup=False)


def _find(experiment: str, budget: str | None, strategy: str | None, seed: int | None) -> tuple[Store, Adapter]:
    """The store, and the adapter that the options name."""
    from taskdiv_assets.commands import trained_adapters

    chosen = open_experiment(experiment)
    store = Store(chosen.name)
    one = trained_adapters.find(chosen, store, None if budget is None else parse_budget(budget), strategy, seed)
    if not one.is_fresh:
        name = f"{one.cell.key}, seed {one.seed}"
        console.print(
            f"note: {name} was made from older settings or inputs; `taskdiv run {chosen.name}` renews it", markup=False
        )
    return store, one
