"""The `taskdiv experiments` commands: what there is, what it consists of, to remove one, to rename one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from data_contracts import plain_yaml
from taskdiv_assets.commands import stored_experiments
from taskdiv_assets.commands.consoles import is_interactive, out, plain_errors, quietly
from taskdiv_assets.commands.opening import EXPERIMENT, open_experiment
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.storage.store import Store, home

experiments_app = typer.Typer(help="The experiments: list, show, remove, rename.", no_args_is_help=True)
NAME = Annotated[str, typer.Argument(metavar="NAME", help="Name of a stored experiment.")]


@experiments_app.command("list")
def experiments_list() -> None:
    """List the experiments: built-in or stored, purpose, how far each has come, the file that it was read from.

    Example: taskdiv experiments list
    """
    with plain_errors():
        table = Table()
        for name in ("experiment", "kind", "purpose", "stage", "file"):
            table.add_column(name, overflow="fold")
        broken = []
        for one in stored_experiments.listed(home()):
            kind = "built-in" if one.is_built_in else "stored"
            purpose = one.purpose or "cannot be used"
            table.add_row(*map(escape, (one.name, kind, purpose, one.stage, one.file or "")))
            broken += [one] if one.problem else []
        out.print(table)
        for one in broken:
            out.print(f"{one.name} cannot be used: {one.problem}", markup=False)
            advice = f"correct {one.file}, then `taskdiv run {one.file} --replace`; or " if one.file else ""
            out.print(f"  {advice}`taskdiv experiments remove {one.name}`", markup=False)
        out.print(f"stored in {home()}", markup=False)


@experiments_app.command("show")
def experiments_show(experiment: EXPERIMENT) -> None:
    """Print every setting of an experiment as YAML, with the defaults that its file leaves out.

    Example: taskdiv experiments show demo
    """
    with plain_errors():
        out.print(as_yaml(open_experiment(experiment, is_kept=False)), markup=False, highlight=False, end="")


@experiments_app.command("remove")
def experiments_remove(
    name: NAME,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    with_annotations: Annotated[
        bool, typer.Option("--with-annotations", help="Although exports, answers or verdicts would be lost.")
    ] = False,
) -> None:
    """Remove all results of an experiment, and its stored settings. The file that it was read from stays.

    Example: taskdiv experiments remove questions
    """
    with plain_errors():
        store = stored(name)
        bought = stored_experiments.bought(store)
        if bought and not with_annotations:
            raise ValueError(
                f"{name} has {bought}, which nobody can compute again; to remove them too, add --with-annotations"
            )
        size = stored_experiments.size(store)
        what = f"{store.url}: {size.files_n:,} files, {size.bytes_n / 2**20:,.1f} MiB" + (
            f", with {bought}" * bool(bought)
        )
        if not yes:
            if not is_interactive():
                raise ValueError(f"this would remove {what}; nobody can be asked here, so add --yes")
            typer.confirm(f"Remove {what}?", default=False, abort=True, err=True)
        quietly()
        with stored_experiments.opened_dagster() as dagster:
            stored_experiments.remove(store, dagster)
        out.print(f"removed: {what}", markup=False)


@experiments_app.command("rename")
def experiments_rename(
    name: NAME, new_name: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")]
) -> None:
    """Give a stored experiment another name. All results are kept; the next run notes them in Dagster under the new name.

    Example: taskdiv experiments rename questions tickets_2026
    """
    with plain_errors():
        old, new = Store(name), Store(new_name)
        stored_experiments.check_new_name(new_name)
        if name in experiment_file.built_in_names():
            raise ValueError(
                f"{name} is built in and keeps its name; `taskdiv experiments show {name}` gives its settings"
            )
        if new.get(stored_experiments.FILE) is None:  # else it may be a rename that was killed, which is finished now
            stored(name)
        quietly()
        with stored_experiments.opened_dagster() as dagster:
            stored_experiments.rename(old, new, dagster)
        out.print(f"renamed: {name} is {new_name} now", markup=False)
        file = experiment_file.origin_of((new.get(stored_experiments.FILE) or b"").decode("utf-8"))
        if file is not None and ("://" in file or Path(file).is_file()):
            out.print(
                f"change `name: {name}` in {file} too: `taskdiv run` of that file would begin {name} again",
                markup=False,
            )
        out.print(f"next: taskdiv run {new_name}", markup=False)


def stored(name: str) -> Store:
    """The store of an experiment of which something is there.

    Raises:
        ExperimentError: nothing is.
    """
    store = Store(name)
    is_name = "/" not in name and name not in ("", ".", "..", "dagster")
    if not is_name or not store.names():
        if name in experiment_file.built_in_names():
            raise experiment_file.ExperimentError(f"nothing is stored for {name} in {home()}")
        raise experiment_file.ExperimentError(experiment_file.no_experiment(name, home()))
    return store


def as_yaml(experiment: Experiment) -> str:
    """Return the settings of an experiment as YAML that reads as the same experiment."""
    settings = experiment.model_dump(mode="json", by_alias=True)
    return plain_yaml.document(settings)
