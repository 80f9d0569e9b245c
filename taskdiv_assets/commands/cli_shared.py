"""What every command of `taskdiv` shares: the two consoles, plain sentences for mistakes, opening an experiment.

The commands themselves stand in `cli` and `cli_annotations`.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from taskdiv_assets.commands import edited
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.experiment import Experiment, experiment_file, parse_budget
from taskdiv_assets.graph import cells
from taskdiv_assets.settings import NAME_PATTERN
from taskdiv_assets.storage.store import Store, home

EXPERIMENT = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="Name of a built-in one, or path of a YAML file.")
]
BUDGETS = Annotated[list[str] | None, typer.Option("--budget", metavar="N", help="Only this budget; may be repeated.")]
STRATEGY = Annotated[list[str] | None, typer.Option("--strategy", metavar="S", help="Only this one; may be repeated.")]
console = Console(stderr=True, highlight=False)
out = Console(highlight=False, soft_wrap=True)
_DIRECTIONS = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@contextmanager
def said_plainly() -> Iterator[None]:
    """A mistake of the user's is a sentence on stderr and exit code 2, never a stack of frames."""
    try:
        yield
    except (typer.Exit, typer.Abort):  # RuntimeErrors too
        raise
    except KeyboardInterrupt:
        console.print("\nstopped; what was finished is kept. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    except Exception as error:
        fail(_sentence(error))


def _sentence(error: Exception) -> str:
    """Return an error as a sentence, and raise it again where it is neither a mistake of the user's nor the machine's trouble."""
    from taskdiv_assets.orchestration import troubles

    if (sentence := troubles.sentence(error)) is not None:
        return sentence
    if isinstance(error, OSError):
        return f"{error}; check the path, $TASKDIV_HOME ({home()}) and $DAGSTER_HOME"
    if isinstance(error, ValueError | RuntimeError | ImportError):
        return str(error)
    raise error


def quietly() -> None:
    """Keep the notices of libraries off the terminal."""
    from taskdiv_assets.commands import workers

    workers.quiet()
    os.environ.setdefault("TASKDIV_QUIET", "1")


def fail(message: str, code: int = 2) -> NoReturn:
    """Print a sentence and end."""
    console.print("[bold red]error:[/] ", end="")
    console.print(visible(message), soft_wrap=True, markup=False)
    raise typer.Exit(code)


def escaped(text: str) -> str:
    r"""Return text from outside for rich: brackets are no markup, and control characters are spelled out.

    >>> escaped("[red]\x1b[2J")
    '\\[red]\\x1b[2J'
    """
    return escape(visible(text))


def visible(text: str, *, is_one_line: bool = False) -> str:
    """Return text in which a terminal obeys nothing but line feeds and tabs, and not even these if `is_one_line`.

    Control characters (a terminal's escapes among them), signs that turn the direction of writing, and bytes that were no
    text are spelled out.
    """
    kept = "" if is_one_line else "\n\t"
    return "".join(
        character.encode("unicode_escape").decode() if _is_unseen(character) and character not in kept else character
        for character in text
    )


def say(text: str) -> None:
    """Print a line of results in which nothing is markup."""
    out.print(visible(text), markup=False)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS


def open_experiment(source: str, *, replace: bool = False, is_kept: bool = True, is_told: bool = True) -> Experiment:
    """Open an experiment by name or path.

    Args:
        source: name of a built-in or stored experiment, or path of a YAML file.
        replace: take an edited file although stored results would be made again, without asking.
        is_kept: copy a file at a path to the store, so that the UI shows it too; False changes nothing on disk.
        is_told: print what an edit of the file changes.

    Raises:
        ValueError: mistakes in the file; or it would make stored results again, and nobody agreed to that.
    """
    names = experiment_file.built_in_names()
    if source in names:
        return experiment_file.load(source)
    if not source.endswith((".yaml", ".yml")):
        return open_stored(source, is_told=is_told)
    text, origin = experiment_file.read_text(source)
    experiment = experiment_file.parse(text, origin)
    store = Store(experiment.name)
    if source == store.locate("experiment.yaml"):
        return experiment
    if experiment.name in names:
        raise ValueError(f"{source}: the name {experiment.name!r} is a built-in experiment's; choose another `name:`")
    kept = f"{experiment_file.ORIGIN}{origin if '://' in origin else Path(origin).resolve()}\n{text}".encode()
    stored = store.get("experiment.yaml")
    if stored is not None and stored != kept and (is_kept or is_told):
        agree_to_edit(stored, experiment, source, is_agreed=replace or not is_kept)
    if stored != kept and is_kept:
        store.put(kept, "experiment.yaml")
    return experiment


def open_stored(name: str, *, is_told: bool = True) -> Experiment:
    """Open an experiment of the store by its name; if `is_told`, say if the file that it was read from has changed since.

    Raises:
        ExperimentError: there is none, or it cannot be used any more.
    """
    store = Store(name)
    is_name = re.fullmatch(NAME_PATTERN, name)
    text = store.get("experiment.yaml") if is_name else None
    if text is None:
        raise experiment_file.ExperimentError(experiment_file.no_experiment(name, home()))
    said = text.decode("utf-8", errors="replace")
    file = experiment_file.origin_of(said)
    try:
        experiment = experiment_file.parse(said, store.locate("experiment.yaml"))
    except experiment_file.ExperimentError as error:
        advice = f"\nIt was read from {file}: correct it there, then `taskdiv run {file}`" if file else ""
        raise experiment_file.ExperimentError(f"{error}{advice}") from None
    is_here = is_told and file is not None and "://" not in file and Path(file).is_file()
    if is_here and file is not None and (sentence := edited.since(experiment, file)):
        console.print(f"note: {sentence}", markup=False, soft_wrap=True)
    return experiment


def agree_to_edit(stored: bytes, experiment: Experiment, source: str, *, is_agreed: bool) -> None:
    """Show what an edited file changes, and ask where stored results would be made again.

    Args:
        stored: the copy in the store.
        experiment: the file as it is now.
        source: its path.
        is_agreed: True if nothing has to be asked.

    Raises:
        ValueError: results would be made again, and there is no terminal to ask at.
        typer.Exit: the user said no.
    """
    edit = edited.look(stored.decode("utf-8", errors="replace"), experiment)
    if not edit.lines:
        return
    said = f"{source} has other settings than the stored experiment {experiment.name}:\n" + "\n".join(edit.lines)
    if is_agreed or not edit.again:
        console.print(f"{said}\n{edit.consequence}", markup=False, soft_wrap=True)
    elif is_interactive():
        console.print(f"{said}\n{edit.consequence}", markup=False, soft_wrap=True)
        typer.confirm("Take the edited file?", default=False, abort=True, err=True)
    else:
        advice = f"to take it: `taskdiv run {source} --replace`; to keep both, give this file another `name:`"
        raise ValueError(f"{said}\n{edit.consequence}; {advice}")


def is_interactive() -> bool:
    """True if there is somebody at a terminal to be asked."""
    return sys.stdin.isatty()


def say_ignored(experiment: Experiment) -> None:
    """Print a line for every file among the budgets that is none."""
    for sentence in cells.foreign_budgets(Store(experiment.name)):
        console.print(f"note: {visible(sentence)}", markup=False, soft_wrap=True)


def say_warnings(experiment: Experiment, wanted: Filter) -> None:
    """Print a line for every warning of a contract that concerns the wanted part."""
    from taskdiv_assets.commands.warned import stored_warnings

    for line in stored_warnings(experiment, Store(experiment.name), wanted):
        console.print(line, markup=False, soft_wrap=True)


def check_filters(experiment: Experiment, budgets: list[str] | None, strategies: list[str] | None) -> tuple[int, ...]:
    """Budgets as numbers, after every filter was found to make sense."""
    numbers = tuple(parse_budget(text) for text in budgets or ())
    for number in numbers:
        check_budget(experiment, number)
    for name in strategies or ():
        if name not in experiment.strategies:
            experiment.strategy(name)  # says of an unknown one which there are
        if name not in experiment.strategies:
            raise ValueError(
                f"strategy {name!r} is not in {experiment.name}; it has {', '.join(experiment.strategies)}"
            )
    return numbers


def check_budget(experiment: Experiment, budget_n: int) -> None:
    """A budget is at most the pool, as soon as the pool is known."""
    from taskdiv_assets.graph.lineage import Lineage

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
