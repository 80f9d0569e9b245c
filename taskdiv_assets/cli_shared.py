"""What every command of `taskdiv` shares: the two consoles, plain sentences for mistakes, opening an experiment.

The commands themselves stand in `cli` and `cli_annotations`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from taskdiv_assets import experiment_file
from taskdiv_assets.experiment import Experiment, parse_budget
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.store import Store, home

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


def open_experiment(source: str, *, replace: bool = False, is_kept: bool = True) -> Experiment:
    """Open an experiment by name or path.

    Args:
        source: name of a built-in or stored experiment, or path of a YAML file.
        replace: use the file in place of a stored one of its name.
        is_kept: copy a file at a path to the store, so that the UI shows it too; False changes nothing on disk.

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
    if stored_text != kept and is_kept:
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
