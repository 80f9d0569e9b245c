"""Common properties of all commands: help under both names, an example for new commands, and the version."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from taskdiv_assets import __version__
from taskdiv_assets.cli import app
from taskdiv_assets.commands import ui
from taskdiv_assets.commands.task_lines import lines_of
from tests.home import Home

NEW = (
    *("init", "schema", "home-folder", "experiments list", "experiments show", "experiments remove"),
    *("experiments rename", "adapters list", "adapters path", "adapters export"),
)


def commands() -> list[str]:
    """Return the names of all commands and groups, as users type them."""
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


@pytest.mark.parametrize("width_n", [40, 80, 400])
def test_a_found_task_is_shown_in_four_lines_that_fit(width_n: int) -> None:
    prompts = ["How do I\nreset [bold]my[/] password? " * 9, "パスワードを忘れました。" * 20, "a third one"]
    found = {"terms": [f"term {i}" for i in range(40)], "central": [{"prompt": one} for one in prompts]}
    name = "reset, password, \x1b[2J, " * 20
    shown = [*lines_of(name, 1234, found, width_n)]
    assert len(shown) == 4 and all(cell_len(line) <= width_n and line.isprintable() for line in shown)
    assert shown[0].startswith("reset, password") and shown[0].endswith("…: 1,234 prompts")
    assert shown[1].startswith("    terms: term 0, term 1") and "How do I reset [bold]my[/]" in shown[2]
    assert [*lines_of("other", 1, None, 80, 3)] == ["other: 1 prompt, 3 finer tasks"]


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.output.strip() == f"taskdiv-assets {__version__}"


def test_the_home_folder_is_among_the_commands() -> None:
    assert "home-folder" in CliRunner().invoke(app, ["--help"]).output


@pytest.mark.full
def test_the_home_folder_has_its_databases_when_it_is_printed(empty_home: Home) -> None:
    """Else the processes of `dagster dev` make them at once, and collide."""
    result = CliRunner().invoke(app, ["home-folder"])
    folder = Path(result.stdout.strip())
    assert result.exit_code == 0 and folder.is_absolute() and (folder / "history" / "runs.db").is_file()


def test_the_home_has_its_databases_before_dagster_starts(empty_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def run(command: list[str]) -> int:
        workspace = Path(command[command.index("-w") + 1])
        seen.append((workspace.parent / "history" / "runs.db").is_file())
        return 0

    monkeypatch.setattr(ui, "run_until_stopped", run)
    monkeypatch.setattr(ui.report_server, "serve", lambda port: nullcontext())
    assert CliRunner().invoke(app, ["ui"]).exit_code == 0 and seen == [True]
