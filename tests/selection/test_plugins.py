"""Strategies of other packages: docs/SELECTION.md's example is installed, ranked, tested against the contract, and broken."""

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from taskdiv_assets.assets import ranking
from taskdiv_assets.commands.doctor.installation import strategy_plugins
from taskdiv_assets.experiment import experiment_file, plugins
from taskdiv_assets.experiment.experiment_file import ExperimentError
from taskdiv_assets.experiment.plugins import GROUP, Plugin, sort_out
from taskdiv_assets.selection import STRATEGIES, rank
from taskdiv_assets.selection.testing import make_pool

DOCS = (Path(__file__).parents[2] / "docs/SELECTION.md").read_text(encoding="utf-8")
MODULE, CONTRACT = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
(ENTRY,) = re.findall(r"```toml\n\[project.*?\]\n(.*?)```", DOCS, re.DOTALL)
FILE = """name: campaign
pool: {reader: table, path: pool.csv, columns: {prompt: prompt}}
strategies: [random, shortest_first]
budgets: [3]
"""


def install(
    folder: Path, module: str = MODULE, *, version: str = "1.0", entry: str = ENTRY, name: str = "short-first"
) -> Path:
    """Write a package as pip leaves it: a module, and metadata with an entry point."""
    folder.mkdir(exist_ok=True)
    (folder / "short_first.py").write_text(module)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry.replace(chr(34), '')}")
    return folder


@pytest.fixture
def site(monkeypatch, tmp_path):
    """Yield a folder on the path of modules, and clear everything remembered about plug-ins before and after."""

    def forget() -> None:
        plugins.installed.cache_clear()
        plugins.load.cache_clear()
        sys.modules.pop("short_first", None)

    monkeypatch.syspath_prepend(tmp_path / "site")
    forget()
    yield tmp_path / "site"
    forget()


def load(tmp_path: Path, text: str = FILE):
    (tmp_path / "campaign.yaml").write_text(text)
    return experiment_file.load(str(tmp_path / "campaign.yaml"))


def test_the_example_is_ranked_like_any_other(site, tmp_path):
    install(site)
    experiment, pool = load(tmp_path), make_pool()
    order = rank(experiment.strategy("shortest_first"), pool, seed=0)
    rows = sorted(range(60), key=lambda row: (len(pool.prompts[row]), int(pool.prompt_ids[row])))
    assert order.tolist() == rows
    (found,) = strategy_plugins(plugins.installed())
    assert found[:3] == (
        "well",
        "plug-ins",
        "strategy shortest_first of the package short-first 1.0, version 1, reads prompts",
    )


def test_the_contract_runs_in_the_author_s_own_tests(site, tmp_path):
    """As the docs write it, in a fresh process that finds the package by PYTHONPATH; and one that breaks its word fails."""
    install(site)
    (tmp_path / "test_short.py").write_text(CONTRACT)
    broken = MODULE.replace("(pool.prompt_ids, lengths)", "(lengths,)")
    (site / "careless.py").write_text(broken)
    (tmp_path / "test_careless.py").write_text(CONTRACT.replace("short_first", "careless"))
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", str(Path(__file__).parents[2]))])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    failed = re.findall(r"FAILED (test_\w+)\.py::\w+::(\w+)", run.stdout)
    assert {file for file, _ in failed} == {"test_careless"}, run.stdout[-2000:]
    assert "test_same_seed_same_order_even_if_the_pool_is_shuffled" in {test for _, test in failed}


def test_the_identity_holds_the_version_and_the_package(site, tmp_path):
    install(site)
    experiment = load(tmp_path)
    settings = ranking.ranking_settings(experiment, "shortest_first", 60, 60)
    assert settings["plugin"] == {"distribution": "short-first", "distribution_version": "1.0", "version": 1}
    assert "plugin" not in ranking.ranking_settings(experiment, "random", 60, 60)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import nothing_of_the_kind", r"cannot be imported \(ModuleNotFoundError: No module named 'nothing_of_the_kind'\)"),
        ("x = 1", r"cannot be imported \(AttributeError: "),
        ("strategy = 1", "cannot be used: its entry point is a int, expected a taskdiv_assets.selection.Strategy"),
        (MODULE.replace('"shortest_first"', '"other"'), "its strategy calls itself 'other'"),
        (MODULE.replace('{"prompts"}', '{"responses"}'), "it needs responses, expected some of embeddings, prompts, scores"),
        (MODULE.replace("version=1", "version=1.5"), "its version is 1.5, expected a whole number or text"),
        ("raise SystemError('no')", r"cannot be imported \(SystemError: no\)"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_takes_only_itself_away(site, tmp_path, module, said):
    install(site, module)
    with pytest.raises(
        ExperimentError, match=f"3: strategies: strategy shortest_first of the package short-first 1.0 .*{said}"
    ):
        load(tmp_path)
    assert load(tmp_path, FILE.replace(", shortest_first", "")).strategies == ["random"]
    (found,) = strategy_plugins(plugins.installed())
    assert (found.level, found.advice) == ("broken", "experiments that do not name it are not affected")


def test_it_is_imported_only_if_it_is_named(site, tmp_path):
    install(site)
    load(tmp_path, FILE.replace(", shortest_first", ""))
    with pytest.raises(
        ExperimentError, match=r"unknown strategy shortest; expected some of random, .*, shortest_first$"
    ):
        load(tmp_path, FILE.replace("shortest_first", "shortest"))
    assert "short_first" not in sys.modules
    load(tmp_path)
    assert "short_first" in sys.modules


def test_names_that_are_taken_or_no_names_are_left_out_with_a_sentence(site, caplog):
    install(site, entry="random = short_first:strategy\nOurs = short_first:strategy\nmine = short_first:strategy\n")
    with caplog.at_level("WARNING", "taskdiv.plugins"):
        assert list(plugins.installed().by_name) == ["mine"]
        plugins.installed()
    assert [record.message for record in caplog.records] == [
        "strategy Ours of the package short-first 1.0 is left out: a strategy's name has lower-case letters, digits and _ only",
        "strategy random of the package short-first 1.0 is left out: a built-in strategy has this name",
    ]
    assert plugins.known_names() == [*STRATEGIES, "mine"]


def test_two_packages_that_bring_one_name_take_it_from_each_other():
    """Otherwise an order would depend on which of them the path of modules happens to name first."""
    one = EntryPoint("mine", "a:b", GROUP)
    other = EntryPoint("theirs", "a:c", GROUP)
    found = sort_out([Plugin(one, "a", "1"), Plugin(other, "a", "1"), Plugin(one, "b", "2")])
    assert list(found.by_name) == ["theirs"]
    assert found.problems == (
        "strategy mine is left out: the packages a 1 and b 2 both have one of this name; uninstall one of them",
    )
