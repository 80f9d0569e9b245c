"""The `taskdiv experiments` commands, which list, show, remove and rename experiments, and the command `taskdiv schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from data_contracts import plain_yaml
from taskdiv_assets.commands import stored_experiments
from taskdiv_assets.commands.consoles import folded, is_interactive, out, plain_errors, quietly, say
from taskdiv_assets.commands.opening import EXPERIMENT, open_experiment
from taskdiv_assets.experiment import Experiment, experiment_file, experiment_schema
from taskdiv_assets.storage.store import Store, home

experiments_app = typer.Typer(help="List, show, remove and rename experiments.", no_args_is_help=True)
NAME = Annotated[str, typer.Argument(metavar="NAME", help="Name of a stored experiment.")]


@experiments_app.command("list")
def experiments_list() -> None:
    """List the built-in and the stored experiments, each with its purpose, progress and file.

    Example: taskdiv experiments list
    """
    with plain_errors():
        table = folded("experiment", "kind", "purpose", "stage", "file")
        listed = list(stored_experiments.listed(home()))
        for one in listed:
            kind, purpose = "built-in" if one.is_built_in else "stored", one.purpose or "cannot be used"
            table.add_row(*map(escape, (one.name, kind, purpose, one.stage, one.file or "")))
        out.print(table)
        for one in listed:
            if one.problem:
                advice = f"correct {one.file}, then `taskdiv run {one.file} --replace`; or " if one.file else ""
                say(f"{one.name} cannot be used: {one.problem}")
                say(f"  {advice}`taskdiv experiments remove {one.name}`")
        say(f"stored in {home()}")


@experiments_app.command("show")
def experiments_show(experiment: EXPERIMENT) -> None:
    """Print every setting of an experiment as YAML, including the defaults that its file leaves out.

    Example: taskdiv experiments show demo
    """
    with plain_errors():
        out.print(as_yaml(open_experiment(experiment, is_kept=False)), markup=False, highlight=False, end="")


@experiments_app.command("remove")
def experiments_remove(
    name: NAME,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    with_annotations: Annotated[
        bool, typer.Option("--with-annotations", help="Also remove exports, answers and verdicts.")
    ] = False,
) -> None:
    """Remove all results and the stored settings of an experiment. The user's own experiment file is kept.

    Example: taskdiv experiments remove questions
    """
    with plain_errors():
        store = stored(name)
        bought = stored_experiments.bought(store)
        if bought and not with_annotations:
            raise ValueError(
                f"{name} has {bought}, which cannot be computed again; to remove them too, add --with-annotations"
            )
        size = stored_experiments.size(store)
        what = f"{store.url}: {size.files_n:,} files, {size.bytes_n / 2**20:,.1f} MiB{f', with {bought}' if bought else ''}"
        if not yes:
            if not is_interactive():
                raise ValueError(f"this would remove {what}; there is no terminal to ask on, so add --yes")
            typer.confirm(f"Remove {what}?", default=False, abort=True, err=True)
        quietly()
        with stored_experiments.opened_dagster() as dagster:
            stored_experiments.remove(store, dagster)
        say(f"removed: {what}")


@experiments_app.command("rename")
def experiments_rename(
    name: NAME, new_name: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")]
) -> None:
    """Rename a stored experiment. All results are kept. The next run records them in Dagster under the new name.

    Example: taskdiv experiments rename questions tickets_2026
    """
    with plain_errors():
        old, new = Store(name), Store(new_name)
        stored_experiments.check_new_name(new_name)
        if name in experiment_file.built_in_names():
            raise ValueError(
                f"{name} is built in and cannot be renamed; `taskdiv experiments show {name}` prints its settings"
            )
        if new.get(stored_experiments.FILE) is None:  # otherwise this may complete an interrupted rename
            stored(name)
        quietly()
        with stored_experiments.opened_dagster() as dagster:
            stored_experiments.rename(old, new, dagster)
        say(f"renamed: {name} is {new_name} now")
        file = experiment_file.origin_of((new.get(stored_experiments.FILE) or b"").decode("utf-8"))
        if file is not None and ("://" in file or Path(file).is_file()):
            say(f"change `name: {name}` in {file} too: otherwise `taskdiv run` of that file would start {name} again")
        say(f"next: taskdiv run {new_name}")


def stored(name: str) -> Store:
    """Return the store of an experiment. Raise ExperimentError if nothing is stored under this name."""
    store = Store(name)
    is_name = "/" not in name and name not in ("", ".", "..", "dagster")
    if not is_name or not store.names():
        is_built_in = name in experiment_file.built_in_names()
        problem = (
            f"nothing is stored for {name} in {home()}" if is_built_in else experiment_file.no_experiment(name, home())
        )
        raise experiment_file.ExperimentError(problem)
    return store


def as_yaml(experiment: Experiment) -> str:
    """Return the settings of an experiment as YAML. The YAML is a valid file of the same experiment."""
    return plain_yaml.document(experiment.model_dump(mode="json", by_alias=True))


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file, replacing it.")
    ] = None,
) -> None:
    """Print a JSON Schema of experiment files, or write it to a file. Editors use it to complete and check such files.

    The first line of an experiment file can name the schema: # yaml-language-server: $schema=experiment.schema.json

    Example: taskdiv schema --output experiment.schema.json
    """
    with plain_errors():
        text = experiment_schema.as_json()
        if output is None:
            out.print(text, markup=False, highlight=False, end="")
        else:
            output.write_text(text, encoding="utf-8")
            say(f"schema: {output}")
