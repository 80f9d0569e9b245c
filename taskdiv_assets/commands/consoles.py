"""Printing for all commands: two consoles, error messages, and functions that escape control characters in users' texts."""

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
from rich.table import Table

from taskdiv_assets.commands.workers import quiet
from taskdiv_assets.orchestration import troubles
from taskdiv_assets.storage.store import home

console = Console(stderr=True, highlight=False)
out = Console(highlight=False, soft_wrap=True)
_DIRECTIONS = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print an error that the user or the machine caused, and exit with code 2 (130 for Ctrl-C). Other errors are not caught."""
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
    """Return the sentence for an error that the user or the machine caused. Raise any other error again."""
    if (sentence := troubles.sentence(error)) is not None:
        return sentence
    if isinstance(error, OSError):
        return f"{error}; check the path, $TASKDIV_HOME ({home()}) and $DAGSTER_HOME"
    if isinstance(error, ValueError | RuntimeError | ImportError):
        return str(error)
    raise error


def fail(message: str, code: int = 2) -> NoReturn:
    """Print an error on stderr, and exit with `code`."""
    console.print("[bold red]error:[/] ", end="")
    note(message)
    raise typer.Exit(code)


def note(*lines: str) -> None:
    """Print lines on stderr. Brackets are printed, and are not interpreted as rich's markup."""
    for line in lines:
        console.print(visible(line), soft_wrap=True, markup=False)


def say(*lines: str) -> None:
    """Print lines of results on stdout. Brackets are printed, and are not interpreted as rich's markup."""
    for line in lines:
        out.print(visible(line), markup=False)


def escaped(text: str) -> str:
    r"""Return text that rich prints literally: brackets are escaped, and control characters are replaced as by `visible`.

    >>> escaped("[red]\x1b[2J")
    '\\[red]\\x1b[2J'
    """
    return escape(visible(text))


def visible(text: str, *, is_one_line: bool = False) -> str:
    r"""Return text with a Python escape, such as `\x1b` for ESC, in place of every character that a terminal would interpret.

    Such characters are control characters, line separators, characters that change the writing direction, and surrogates. Line
    feeds and tabs are replaced only if `is_one_line` is True.
    """
    kept = "" if is_one_line else "\n\t"
    return "".join(
        character.encode("unicode_escape").decode() if _is_unseen(character) and character not in kept else character
        for character in text
    )


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS


def folded(*columns: str, title: str | None = None) -> Table:
    """Return an empty table with the given columns. In a narrow terminal, long values are wrapped instead of cut."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def near(path: Path) -> str:
    """Return a path as one line of text. A path inside the current folder is written relative to this folder."""
    here = Path.cwd()
    return visible(str(path.relative_to(here) if path.is_relative_to(here) else path), is_one_line=True)


def is_interactive() -> bool:
    return sys.stdin.isatty()


def quietly() -> None:
    """Suppress the notices of libraries, and the warnings of `code_location`, on the terminal."""
    quiet()
    os.environ.setdefault("TASKDIV_QUIET", "1")
