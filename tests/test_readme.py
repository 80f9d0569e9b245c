"""Commands, options, experiment files, assets and links on the pages exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.cli import app
from taskdiv_assets.experiment.experiment_file import parse
from tests.evidence import asset_table

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docs/ANNOTATING.md", "docs/POOLS.md", "docs/DAGSTER.md")
ALL_PAGES = sorted(
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
)
MAKE = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Return the commands of a page's shell blocks, without comments."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.partition("#")[0].split("&&")]
    return [part for part in parts if part]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words name, and the words after its name."""
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


def test_the_table_of_assets_is_the_registry() -> None:
    assert asset_table.stored((ROOT / "README.md").read_text()) == asset_table.table(), (
        "run python -m tests.evidence.asset_table"
    )


def test_the_drawing_shows_dependencies_of_the_registry() -> None:
    (drawing,) = blocks("README.md", "mermaid")
    arrows = set()
    for line in drawing.splitlines()[1:]:
        left, right = (re.sub(r"\[\".*?\"\]", "", side).split("&") for side in line.split("-->"))
        arrows |= {(one.strip(), other.strip()) for one in left for other in right}
    assert arrows
    assert not {(one, other) for one, other in arrows if one not in REGISTRY.reads(other)}


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), f"{page} links to {target}"
            assert not anchor or anchor in anchors(path), f"{page} links to {target}"


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if page != "docs/LOG.md"])
def test_files_of_the_source_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"\b(?:taskdiv_assets|reports|data_contracts|tests)/[\w/.]*\w", text))
    example = {"taskdiv_assets/assets/prompt_lengths.py", "data_contracts/prompt_lengths.odcs.yaml"}
    assert not {name for name in named - example if not (ROOT / name).exists()}
    modules = set(re.findall(r"python -m ((?:tests|reports|taskdiv_assets)[\w.]*)", text))
    missing = [
        m
        for m in modules
        if not (ROOT / f"{m.replace('.', '/')}.py").exists() and not (ROOT / m.replace(".", "/")).is_dir()
    ]
    assert not missing
