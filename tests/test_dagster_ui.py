"""A real `dagster dev` gets the requests of its UI: budgets are added, cells backfilled, and a broken contract explained."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import report_server
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.storage.machine import machine
from tests.browser import chromium, tab
from tests.dagster_dev import Ui, dagster_dev, wait_for
from tests.golden import make_report
from tests.graphql import (
    CELL_ASSETS,
    add_budget,
    backfill_status,
    budgets,
    delete_budget,
    launch_backfill,
    log,
    materialisations,
    metadata,
    runs,
)
from tests.home import MINIATURE, Home
from tests.rotten import rotten_copy

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("dagster_ui"), pytest.mark.timeout(900)]
NAME = "miniature"
BUDGET = "15"
BAD_BUDGET = "60x"
STRATEGIES = ("random", "weighted_task_diversity")
CELLS = [f"{BUDGET}|{strategy}" for strategy in STRATEGIES]


@pytest.fixture(scope="module")
def ui(miniature: Home) -> Iterator[Ui]:
    """Run `dagster dev` over the miniature, an experiment file with a mistake, and a base model that was damaged on disk."""
    broken = miniature.folder / "results/mistaken"
    broken.mkdir()
    (broken / "experiment.yaml").write_text("name: mistaken\nbudgetts: [1]\n")
    rotten_copy(miniature, NAME, "rotten")
    make_report(miniature)  # its links name this home
    with dagster_dev(miniature) as served:
        yield served


def link_to(cell: str) -> str:
    """Return the Markdown link target that shows a cell's scores."""
    return f"(/assets/{NAME}/benchmark_scores?view=partitions&partition={quote(cell, safe='')})"


def test_every_asset_of_the_experiment_is_there(ui: Ui) -> None:
    found = ui.query("{ assetNodes { assetKey { path } groupName description kinds } }")["assetNodes"]
    nodes = [node for node in found if node["groupName"] == NAME]
    used = REGISTRY.used(experiment_file.load(str(MINIATURE)))
    assert len(nodes) == len(used) + len(CELL_ASSETS)  # those of the full pool are apart
    assert all(node["description"] and node["kinds"] for node in nodes)


def test_a_broken_experiment_file_says_so_where_its_assets_would_be(ui: Ui) -> None:
    found = ui.query("{ assetNodes { assetKey { path } groupName description } }")["assetNodes"]
    (node,) = [node for node in found if node["groupName"] == "mistaken"]
    assert "did you mean `budgets`?" in node["description"] and "reload" in node["description"]


def test_the_full_pool_is_no_budget_that_can_be_ticked(ui: Ui) -> None:
    assert budgets(ui, NAME) >= {"12", "24"} and "142" not in budgets(ui, NAME)


def test_a_finished_experiment_looks_finished(ui: Ui) -> None:
    """Every cell of the grid is there, and every other asset was materialised."""
    query = """{ assetNodes { assetKey { path } groupName assetMaterializations(limit: 1) { runId } partitionStats { numMaterialized numPartitions } } }"""
    nodes = [node for node in ui.query(query)["assetNodes"] if node["groupName"] == NAME]
    stats = [node["partitionStats"] for node in nodes if node["partitionStats"] is not None]
    assert len(stats) == 1 + len(CELL_ASSETS)
    assert all(one["numMaterialized"] == one["numPartitions"] for one in stats)
    assert all(node["assetMaterializations"] for node in nodes)


def test_the_report_opens_by_a_link_that_its_metadata_hold(ui: Ui) -> None:
    shown = metadata(ui, NAME, "strategy_report")
    with report_server.serve(0, str(ui.home.folder / "results")) as port:
        address = shown["open the report"].replace(f":{machine().report_port}/", f":{port}/")
        with urllib.request.urlopen(address, timeout=30) as answer:
            page = answer.read().decode()
    assert page == (ui.home.folder / "results/miniature/report/index.html").read_text()
    assert "weighted_task_diversity" in shown["answer"]


def test_cells_of_a_new_budget_are_backfilled_and_lead_to_one_report(ui: Ui) -> None:
    report = ui.home.folder / "results/miniature/report/index.html"
    before, made_n = report.read_text(), materialisations(ui, NAME, "strategy_report")[None]
    for budget in (BUDGET, BAD_BUDGET):  # Dagster itself takes any text
        add_budget(ui, NAME, budget)
    bad = launch_backfill(ui, NAME, [f"{BAD_BUDGET}|random"], "allocation")
    red = launch_backfill(ui, "rotten", None, "base_model")
    backfill = launch_backfill(ui, NAME, CELLS, *CELL_ASSETS)
    wait_for(lambda: backfill_status(ui, backfill) != "REQUESTED", 300, "the backfill ended")
    assert backfill_status(ui, backfill) == "COMPLETED_SUCCESS"
    assert (ui.home.folder / f"results/miniature/budgets/{BUDGET}").is_file()
    wait_for(lambda: report.read_text() != before, 150, "the report was made anew by itself")
    wait_for(
        lambda: link_to(f"{BUDGET}|random") in metadata(ui, NAME, "strategy_report")["cells"],
        150,
        "the newest report that Dagster knows holds the cells",
    )
    results = pq.read_table(report.with_name("results.parquet"), columns=["budget_n", "strategy"]).to_pylist()
    assert {f"{row['budget_n']}|{row['strategy']}" for row in results} >= set(CELLS)
    assert materialisations(ui, NAME, "strategy_report")[None] - made_n == 1
    for ended in (bad, red):
        wait_for(lambda ended=ended: backfill_status(ui, ended) != "REQUESTED", 120, "the others ended")


def test_a_run_never_holds_the_report_and_a_cell(ui: Ui) -> None:
    of_cells = runs(ui, experiment=NAME, budget=BUDGET)
    assert of_cells and all("strategy_report" not in run.assets for run in of_cells)


def test_runs_are_found_by_their_tags(ui: Ui) -> None:
    (run,) = runs(ui, experiment=NAME, budget=BUDGET, strategy="random")
    assert (
        run.status == "SUCCESS" and run.tags["model"] == "lab" and run.tags["dagster/partition"] == f"{BUDGET}|random"
    )
    assert {run.tags["strategy"] for run in runs(ui, experiment=NAME, budget=BUDGET)} == set(STRATEGIES)


def test_a_bad_budget_says_why(ui: Ui) -> None:
    (failed,) = runs(ui, **{"dagster/partition": f"{BAD_BUDGET}|random"})
    assert failed.status == "FAILURE"
    assert "not a positive whole number" in json.dumps(log(ui, failed.run_id))
    delete_budget(ui, NAME, BAD_BUDGET)


def test_the_metadata_leads_from_a_cell_to_the_report_and_back(ui: Ui) -> None:
    cell = metadata(ui, NAME, "benchmark_scores", f"{BUDGET}|random")
    assert "(/assets/miniature/strategy_report)" in cell["of this cell"]
    assert "(/assets/miniature/adapter?view=partitions&partition=15%7Crandom)" in cell["of this cell"]
    report = metadata(ui, NAME, "strategy_report")
    assert report["report"] == str(ui.home.folder / "results/miniature/report/index.html")
    assert link_to(f"{BUDGET}|random") in report["cells"]
    assert "data:image/png;base64," in report["picture"] and report["summary"]


def test_a_broken_contract_is_red_with_its_rule_and_what_to_do(ui: Ui) -> None:
    query = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        assetChecksOrError { ... on AssetChecks { checks { name blocking executionForLatestMaterialization {
        status evaluation { description } } } } } } } }"""
    checks = ui.query(query, key={"path": ["rotten", "base_model"]})["assetNodeOrError"]["assetChecksOrError"]["checks"]
    assert all(check["blocking"] for check in checks)
    found = {check["name"]: check["executionForLatestMaterialization"] for check in checks}
    red = {name: entry for name, entry in found.items() if entry is not None and entry["status"] == "FAILED"}
    assert list(red) == ["hashes_equal_files"], found
    assert "materialise it again" in red["hashes_equal_files"]["evaluation"]["description"]
    (run,) = runs(ui, experiment="rotten", **{"dagster/backfill": red_backfill(ui)})
    assert run.status == "FAILURE" and "hashes_equal_files" in json.dumps(log(ui, run.run_id))


def red_backfill(ui: Ui) -> str:
    """Return the backfill of the experiment with the damaged base model."""
    return next(run.tags["dagster/backfill"] for run in runs(ui, experiment="rotten") if "dagster/backfill" in run.tags)


@pytest.mark.browser
def test_the_asset_group_opens_in_a_browser(ui: Ui) -> None:
    with chromium() as browser, tab(browser, width=1800, height=1200) as opened:
        opened.page.goto(f"{ui.url}/locations/taskdiv/asset-groups/miniature/list")
        for name in ("raw_pool", "ranking", "allocation", "adapter"):
            opened.page.get_by_role("link", name=f"{NAME} / {name}").wait_for(timeout=60_000)
        assert opened.errors == []
