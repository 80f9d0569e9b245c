"""Functions that open the experiment that a command names, and check the command's options `--budget` and `--strategy`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import consoles, edits
from taskdiv_assets.commands.consoles import note
from taskdiv_assets.commands.contract_warnings import stored_warnings
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.experiment import Experiment, experiment_file, parse_budget
from taskdiv_assets.experiment.recorded_rounds import with_stored_rounds
from taskdiv_assets.graph import cells
from taskdiv_assets.storage.store import Store, home

EXPERIMENT = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="Name of a built-in or stored experiment, or path of a YAML file.")
]
EXPERIMENTS = Annotated[
    list[str],
    typer.Argument(metavar="EXPERIMENT…", help="Names of built-in or stored experiments, or paths of YAML files."),
]
BUDGETS = Annotated[list[str] | None, typer.Option("--budget", metavar="N", help="Only this budget; can be repeated.")]
STRATEGY = Annotated[
    list[str] | None, typer.Option("--strategy", metavar="S", help="Only this strategy; can be repeated.")
]


def open_experiment(source: str, *, replace: bool = False, is_kept: bool = True, with_notes: bool = True) -> Experiment:
    """Open an experiment: `source` is the name of a built-in or stored experiment, or the path of a YAML file.

    If `is_kept` is True, a YAML file is copied to the store, so that the UI shows the experiment too. If the new settings
    make stored results stale, the user must first accept the file, unless `replace` is True. If `is_kept` is False, nothing is
    written and the user is not asked. The differences from the stored copy are printed if `is_kept` or `with_notes` is True.
    Rounds of the stored copy that the file does not name are kept, unless `replace` is True.
    """
    names = experiment_file.built_in_names()
    if source in names:
        return experiment_file.load(source)
    if not source.endswith((".yaml", ".yml")):
        return open_stored(source, with_notes=with_notes)
    text, origin = experiment_file.read_text(source)
    experiment = experiment_file.parse(text, origin)
    store = Store(experiment.name)
    stored = store.get("experiment.yaml")
    if stored is not None and not replace:  # rounds that `taskdiv round next` started are in the stored copy only
        text = with_stored_rounds(text, stored.decode("utf-8", errors="replace"))
        experiment = experiment_file.parse(text, origin)
    if source == store.locate("experiment.yaml"):
        return experiment
    if experiment.name in names:
        raise ValueError(f"{source}: {experiment.name!r} is the name of a built-in experiment; choose another `name:`")
    kept = f"{experiment_file.ORIGIN}{origin if '://' in origin else Path(origin).resolve()}\n{text}".encode()
    if stored is not None and stored != kept and (is_kept or with_notes):
        agree_to_edit(stored, experiment, source, is_agreed=replace or not is_kept)
    if stored != kept and is_kept:
        store.put(kept, "experiment.yaml")
    return experiment


def open_stored(name: str, *, with_notes: bool = True) -> Experiment:
    """Open a stored experiment. If `with_notes` is True, print a note if the user's local file was changed after it was read."""
    store = Store(name)
    text = store.get("experiment.yaml") if re.fullmatch(NAME_PATTERN, name) else None
    if text is None:
        raise experiment_file.UnknownExperimentError(experiment_file.no_experiment(name, home()))
    stored = text.decode("utf-8", errors="replace")
    file = experiment_file.origin_of(stored)
    try:
        experiment = experiment_file.parse(stored, store.locate("experiment.yaml"))
    except experiment_file.ExperimentError as error:
        advice = f"\nIt was read from {file}: correct it there, then `taskdiv run {file}`" if file else ""
        raise experiment_file.ExperimentError(f"{error}{advice}") from None
    is_local = file is not None and "://" not in file and Path(file).is_file()
    if with_notes and file is not None and is_local and (sentence := edits.since(experiment, file)):
        note(f"note: {sentence}")
    return experiment


def agree_to_edit(stored: bytes, experiment: Experiment, source: str, *, is_agreed: bool) -> None:
    """Print what an edited file changes. If stored results would be recomputed and `is_agreed` is False, ask the user.

    Raise ValueError if the user must be asked and there is no terminal, and typer.Abort if the user does not accept the file.
    """
    edit = edits.look(stored.decode("utf-8", errors="replace"), experiment)
    if not edit.lines:
        return
    first = f"{source} has other settings than the stored experiment {experiment.name}:"
    shown = "\n".join([first, *edit.lines, edit.consequence])
    needs_answer = bool(edit.again) and not is_agreed
    if needs_answer and not consoles.is_interactive():
        advice = f"to accept the edit: `taskdiv run {source} --replace`; to keep both, give this file another `name:`"
        raise ValueError(f"{shown}; {advice}")
    note(shown)
    if needs_answer:
        typer.confirm("Accept the edited file?", default=False, abort=True, err=True)


def say_ignored(experiment: Experiment) -> None:
    """Print a note for each file in the store's folder `budgets` that is not a budget. Hidden files are skipped."""
    note(*(f"note: {sentence}" for sentence in cells.foreign_budgets(Store(experiment.name))))


def say_warnings(experiment: Experiment, wanted: Filter) -> None:
    note(*stored_warnings(experiment, Store(experiment.name), wanted))


def check_filters(experiment: Experiment, budgets: list[str] | None, strategies: list[str] | None) -> tuple[int, ...]:
    """Return `budgets` as numbers. Raise ValueError for an invalid budget, or for a strategy that the experiment lacks."""
    numbers = tuple(map(parse_budget, budgets or ()))
    for number in numbers:
        check_budget(experiment, number)
    for name in strategies or ():
        if name not in experiment.strategies:
            experiment.strategy(name)  # raises an error for an unknown strategy
            raise ValueError(
                f"strategy {name!r} is not in {experiment.name}; it has {', '.join(experiment.strategies)}"
            )
    return numbers


def check_budget(experiment: Experiment, budget_n: int) -> None:
    """Raise ValueError if a budget is larger than the pool, or equal to the pool's size if the full pool has a separate cell.

    While the size of the pool is unknown, every budget is accepted.
    """
    pool = REGISTRY.look(experiment, Store(experiment.name)).pool_size
    if pool is None:
        return
    has_full_pool = bool(experiment.full_pool_seeds) and budget_n not in experiment.budgets
    if budget_n == pool.prompts_n and has_full_pool:
        raise ValueError(
            f"budget {budget_n} is the whole pool of {experiment.name}: that is a cell already, under `random`"
        )
    if said := cells.over_pool(experiment, [budget_n], pool):
        raise ValueError(said)
