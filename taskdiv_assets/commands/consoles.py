"""Printing for all commands: the two consoles, errors as one sentence, and text from outside made safe for a terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from taskdiv_assets.storage.store import home

console = Console(stderr=True, highlight=False)
out = Console(highlight=False, soft_wrap=True)
_DIRECTIONS = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print an expected error as a sentence on stderr and exit with code 2; let unexpected errors through."""
    try:
        yield
    except (typer.Exit, typer.Abort):  # these are RuntimeErrors too
        raise
    except KeyboardInterrupt:
        console.print("\nstopped; finished results are kept. The same command continues where it stopped.")
        raise typer.Exit(130) from None
    except Exception as error:
        fail(_sentence(error))


def _sentence(error: Exception) -> str:
    """Return the sentence for an error that the user or the machine caused, and raise any other error again."""
    from taskdiv_assets.orchestration import troubles

    if (sentence := troubles.sentence(error)) is not None:
        return sentence
    if isinstance(error, OSError):
        return f"{error}; check the path, $TASKDIV_HOME ({home()}) and $DAGSTER_HOME"
    if isinstance(error, ValueError | RuntimeError | ImportError):
        return str(error)
    raise error


def fail(message: str, code: int = 2) -> NoReturn:
    """Print an error and exit."""
    console.print("[bold red]error:[/] ", end="")
    note(message)
    raise typer.Exit(code)


def note(text: str) -> None:
    """Print a line on stderr as it is, without markup."""
    console.print(visible(text), soft_wrap=True, markup=False)


def say(text: str) -> None:
    """Print a line of results on stdout as it is, without markup."""
    out.print(visible(text), markup=False)


def escaped(text: str) -> str:
    r"""Escape text from outside for rich: brackets are not markup, and control characters are spelled out.

    >>> escaped("[red]\x1b[2J")
    '\\[red]\\x1b[2J'
    """
    return escape(visible(text))


def visible(text: str, *, is_one_line: bool = False) -> str:
    """Spell out every character that a terminal would interpret, except line feeds and tabs.

    These are control characters (such as escape sequences), characters that change the writing direction, and surrogates.
    With `is_one_line`, line feeds and tabs are spelled out too.
    """
    kept = "" if is_one_line else "\n\t"
    return "".join(
        character.encode("unicode_escape").decode() if _is_unseen(character) and character not in kept else character
        for character in text
    )


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS


def near(path: Path) -> str:
    """Return a path on one line, relative to the current folder if it is inside."""
    here = Path.cwd()
    return visible(str(path.relative_to(here) if path.is_relative_to(here) else path), is_one_line=True)


def is_interactive() -> bool:
    """Return whether questions can be asked: stdin is a terminal."""
    return sys.stdin.isatty()


def quietly() -> None:
    """Keep notices of libraries off the terminal."""
    from taskdiv_assets.commands import workers

    workers.quiet()
    os.environ.setdefault("TASKDIV_QUIET", "1")
