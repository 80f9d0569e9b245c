"""`taskdiv adapters` with the trained adapters of the miniature: list, path, and a copy that PEFT loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from taskdiv_assets.cli import app
from taskdiv_assets.commands import trained_adapters
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE, Home

pytestmark = pytest.mark.xdist_group("adapters")
ONE = ("--budget", "12", "--strategy", "random", "--seed", "1")


@pytest.fixture
def home(miniature: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name, value in miniature.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    return miniature


def adapters(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["adapters", *arguments])


def test_list_names_every_adapter_with_examples_and_folder(home: Home) -> None:
    result = adapters("list", "miniature")
    assert result.exit_code == 0, result.output
    store = Store("miniature")
    every = list(trained_adapters.adapters(experiment_file.load(str(MINIATURE)), store))
    assert len({(one.cell, one.seed) for one in every}) == len(every) >= 13
    for one in every:
        assert one.identity in result.stdout
        assert store.is_whole(one.identity) and one.is_fresh
    assert sum(one.examples_n == 12 for one in every) >= 6
    assert "out of date" not in result.stdout


def test_path_prints_the_folder_of_one(home: Home) -> None:
    result = adapters("path", "miniature", *ONE)
    folder = Path(result.stdout.strip())
    assert (folder / "adapter_config.json").is_file() and (folder / "README.md").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "adapters match; choose among --budget 12"),
        (("--budget", "12", "--strategy", "random"), "2 adapters match; choose among --seed 0, 1"),
        (("--budget", "13"), "no adapter matches; choose among --budget 12, "),
        (("--budget", "x"), "is not a positive whole number"),
    ],
)
def test_what_is_not_one_adapter_is_one_sentence(home: Home, options: tuple[str, ...], said: str) -> None:
    result = adapters("path", "miniature", *options)
    assert result.exit_code == 2 and said in result.stderr


def test_export_copies_an_adapter_that_peft_reads_and_overwrites_nothing(home: Home, tmp_path: Path) -> None:
    from peft import PeftConfig

    target = tmp_path / "mine"
    result = adapters("export", "miniature", str(target), *ONE)
    assert result.exit_code == 0, result.output
    assert PeftConfig.from_pretrained(str(target)).peft_type == "LORA"
    folder = Path(adapters("path", "miniature", *ONE).stdout.strip())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {path.name for path in target.iterdir()} == {*manifest["files"], "README.md"}
    for name in manifest["files"]:
        assert (target / name).read_bytes() == (folder / name).read_bytes()
    again = adapters("export", "miniature", str(target), *ONE)
    assert again.exit_code == 2 and "already exists, and nothing is overwritten" in again.stderr
    nowhere = adapters("export", "miniature", str(tmp_path / "no" / "where"), *ONE)
    assert nowhere.exit_code == 2 and "there is no folder" in nowhere.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_copy_that_fails_leaves_nothing(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(trained_adapters.shutil, "copyfile", fail)
    result = adapters("export", "miniature", str(tmp_path / "mine"), *ONE)
    assert result.exit_code == 2 and "the disk is full" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_without_adapters_says_how_to_get_some(home: Home) -> None:
    assert "`taskdiv run demo` trains them" in adapters("list", "demo").stdout
    assert "`taskdiv run demo` trains them" in adapters("path", "demo").stderr
