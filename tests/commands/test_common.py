"""What every command has: help under both names, an example where it is new, and the version."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from taskdiv_assets import __version__
from taskdiv_assets.cli import app

NEW = (
    *("init", "schema", "home-folder", "experiments list", "experiments show", "experiments remove"),
    *("experiments rename", "adapters list", "adapters path", "adapters export"),
)


def commands() -> list[str]:
    """Every command and group, as it is typed."""
    found, waiting = [], [("", typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop()
        found.append(path)
        waiting += [(f"{path} {name}".strip(), child) for name, child in getattr(command, "commands", {}).items()]
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_helps_under_both_names(command: str) -> None:
    for option in ("-h", "--help"):
        result = CliRunner().invoke(app, [*command.split(), option])
        assert result.exit_code == 0 and "Usage" in result.output


@pytest.mark.parametrize("command", NEW)
def test_a_new_command_shows_an_example(command: str) -> None:
    assert "Example: " in CliRunner().invoke(app, [*command.split(), "--help"]).output


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.output.strip() == f"taskdiv-assets {__version__}"


def test_the_home_folder_is_among_the_commands() -> None:
    assert "home-folder" in CliRunner().invoke(app, ["--help"]).output
