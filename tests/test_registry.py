"""The registry: declarations match contracts, recipes read only what they declare, and an asset is added in one place."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import data_contracts
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.asset import Asset
from taskdiv_assets.graph.inputs import UndeclaredInputError
from taskdiv_assets.graph.registry import Registry
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.orchestration import factory
from taskdiv_assets.storage.store import Store
from tests import golden
from tests.home import MINIATURE, Home

ROOT = Path(__file__).resolve().parent.parent
CELL = "12|weighted_task_diversity"
UNITS = {"ranking": "weighted_task_diversity", **dict.fromkeys(REGISTRY.by_cell, CELL)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registry")
    golden.unpack("miniature", folder)
    return folder


def registry_with(changed: Asset) -> Registry:
    return Registry([changed if asset.name == changed.name else asset for asset in REGISTRY])


def test_every_asset_has_a_contract_with_its_order_and_partition() -> None:
    assert data_contracts.names() == REGISTRY.order
    assert {one.name: one.partitioned_by for one in REGISTRY} == {
        name: data_contracts.partitioned_by(name) for name in data_contracts.names()
    }


def test_every_asset_comes_after_what_it_reads() -> None:
    order = REGISTRY.order
    for name in order:
        assert all(order.index(other) < order.index(name) for other in REGISTRY.reads(name)), name


def test_the_report_depends_on_every_other_asset_and_dagster_shows_it() -> None:
    experiment, text = experiment_file.load(str(MINIATURE)), MINIATURE.read_text()
    definitions = factory.build(experiment, text)
    graph = definitions.resolve_asset_graph()
    for asset in REGISTRY:
        if asset.name in (used := REGISTRY.used(experiment)):
            (key,) = [key for key in graph.get_all_asset_keys() if key.path == ["miniature", asset.name]]
            parents = {parent.path[-1] for parent in graph.get(key).parent_keys}
            own = {name for name in parents if not name.startswith("full_pool_")}
            assert own == set(REGISTRY.inputs_in(experiment, asset.name)) & set(used), asset.name
    assert set(REGISTRY.reads("strategy_report")) == set(REGISTRY.order) - {"strategy_report"}


@pytest.mark.parametrize("name", [asset.name for asset in REGISTRY if asset.reads])
def test_a_recipe_reads_nothing_that_its_asset_does_not_declare(
    name: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its `reads` each recipe is refused; with all of them it is not (tests/test_stored_before.py computes every one)."""
    monkeypatch.setenv("TASKDIV_HOME", str(results))
    bare = replace(REGISTRY[name], reads=())
    if name == "tuning_choice":
        pytest.skip("the miniature names one learning rate, so that its recipe reads nothing")
    lineage = registry_with(bare).look(experiment_file.load(str(MINIATURE)), Store("miniature"))
    if name in ("task_confidence", "strategy_report"):  # their recipes go through what is declared, and nothing else
        assert lineage.expect(Unit(name, UNITS.get(name))).inputs == {}
        return
    with pytest.raises(UndeclaredInputError, match=f"the recipe of {name} reads .*assets/{name}.py"):
        lineage.expect(Unit(name, UNITS.get(name)))


def test_a_table_that_is_read_indirectly_has_to_be_declared_too(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores name the adapters; that they depend on the base's tokenizer shows only inside the plan of the scoring."""
    monkeypatch.setenv("TASKDIV_HOME", str(results))
    scores = replace(REGISTRY["benchmark_scores"], reads=("adapter",))
    lineage = registry_with(scores).look(experiment_file.load(str(MINIATURE)), Store("miniature"))
    with pytest.raises(UndeclaredInputError, match="reads base_model; add 'base_model' to `reads`"):
        lineage.expect(Unit("benchmark_scores", CELL))


def test_the_function_of_an_asset_reads_only_declared_tables(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_HOME", str(results))
    experiment, store = experiment_file.load(str(MINIATURE)), Store("miniature")
    lineage, unit = REGISTRY.look(experiment, store), Unit("task_labels")
    work = Work(experiment, store, lineage, unit, lineage.expect(unit), str)
    assert work.read("raw_pool").num_rows
    with pytest.raises(UndeclaredInputError, match="task_labels reads allocation"):
        work.read("allocation", CELL)


def test_a_registry_refuses_two_of_a_name_and_an_asset_before_what_it_reads() -> None:
    pool, labels = REGISTRY["raw_pool"], REGISTRY["task_labels"]
    with pytest.raises(ValueError, match="two assets are named 'raw_pool'"):
        Registry([pool, pool])
    with pytest.raises(ValueError, match="task_labels reads 'raw_pool', which does not come before it"):
        Registry([labels, pool])


# --- a new asset, as CONTRIBUTING.md describes ------------------------------------------------------------------------

LOOK = """
import sys, pyarrow.parquet as pq
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.orchestration import factory
from taskdiv_assets.cli import app
experiment, text = experiment_file.load(sys.argv[1]), open(sys.argv[1]).read()
keys = factory.build(experiment, text).resolve_asset_graph().get_all_asset_keys()
print("dagster:", "/".join(next(key.path for key in keys if key.path[-1] == "prompt_lengths")))
for command in (["plan", sys.argv[1]], ["run", sys.argv[1], "--until", "prompt_lengths", "--workers", "1"], ["report", sys.argv[1]]):
    try:
        app(command)
    except SystemExit as ended:
        print(command[0], "ended with", ended.code)
"""


@pytest.mark.full
def test_a_new_asset_is_one_file_one_line_and_one_contract(tmp_path: Path, empty_home: Home) -> None:
    """A copy of the packages gets what CONTRIBUTING.md shows, and nothing else; then Dagster, plan, run and report know it."""
    for package in ("taskdiv_assets", "reports", "data_contracts"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add an asset")[2].partition("\n## ")[0]
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section, re.DOTALL)
    assert sorted(path for path, _ in blocks) == [
        "data_contracts/prompt_lengths.odcs.yaml",
        "taskdiv_assets/assets/prompt_lengths.py",
    ]
    for path, content in blocks:
        (tmp_path / path).write_text(content)
    registry = tmp_path / "taskdiv_assets/assets/__init__.py"
    lines = registry.read_text()
    assert lines.count('    "task_labels",\n') == 1
    registry.write_text(lines.replace('    "task_labels",\n', '    "task_labels",\n    "prompt_lengths",\n'))
    golden.unpack("miniature", empty_home.folder / "results")
    environment = {**empty_home.variables(), "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    run = subprocess.run(
        [sys.executable, "-c", LOOK, str(MINIATURE)], capture_output=True, text=True, env=environment, cwd=tmp_path,
        timeout=600,
    )  # fmt: skip
    said = run.stdout + run.stderr
    assert "dagster: miniature/prompt_lengths" in said, said
    assert re.search(r"not made yet: .*\bprompt_lengths\b", said), said
    assert "run ended with 0" in said and "report ended with 0" in said, said
    store = Store("miniature", str(empty_home.folder / "results"))
    pool = store.read_table("raw_pool").table
    assert store.read_table("prompt_lengths").table.num_rows == pool.num_rows
    page = re.sub(r"</?(?:wbr|bdi)\s*/?>", "", (empty_home.folder / "results/miniature/report/index.html").read_text())
    assert re.search(r"<t[dh][^>]*>\s*prompt_lengths\s*</t[dh]>", page)
