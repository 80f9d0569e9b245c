"""What README tells a user to type and to write is there: commands, options, experiment files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from taskdiv_assets.cli import app
from taskdiv_assets.experiment.experiment_file import parse

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/ANNOTATING.md", "docs/POOLS.md", "docs/DAGSTER.md")
MAKE = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Every command line of a page's shell blocks, without comments."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.partition("#")[0].split("&&")]
    return [part for part in parts if part]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words behind its name."""
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands"):
        name, *words = words
        assert name in found.commands, f"there is no command {name!r}"
        found = found.commands[name]
    return found, words


@pytest.mark.parametrize(("page", "line"), [(page, line) for page in PAGES for line in commands(page)])
def test_a_command_exists_with_the_options_that_the_page_gives_it(page: str, line: str) -> None:
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*", word)]
    if words[0] == "make":
        assert words[1] in MAKE, line
    elif words[0] == "taskdiv":
        command, rest = command_of(words[1:])
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known, line


def test_the_experiment_file_of_the_readme_is_one() -> None:
    files = [block for block in blocks("README.md", "yaml") if "strategies:" in block]
    assert files
    for text in files:
        experiment = parse(text, str(ROOT / "mine.yaml"))
        assert experiment.purpose == "campaign" and experiment.budgets
