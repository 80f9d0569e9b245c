"""A real `dagster dev`, driven as its UI drives it: a budget is added, its cells are backfilled, the report follows."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.browser import chromium, console_errors
from tests.home import Home

pytestmark = pytest.mark.xdist_group("miniature")
ROOT = Path(__file__).resolve().parent.parent
BUDGET = "15"
BAD_BUDGET = "60x"
CELLS = [f"{BUDGET}|{strategy}" for strategy in ("random", "weighted_task_diversity")]
SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": "taskdiv"}


class Ui:
    """The webserver of a running `dagster dev`."""

    def __init__(self, port: int, home: Home) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.home = home

    def query(self, text: str, **variables: Any) -> Any:
        """A GraphQL request; errors of the server fail the test."""
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            result = json.loads(answer.read())
        assert "errors" not in result, result["errors"]
        return result["data"]


@pytest.fixture(scope="module")
def ui(miniature: Home) -> Iterator[Ui]:
    """`dagster dev` over the miniature's results, ended with its whole process group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (miniature.folder / "dagster-dev.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, **miniature.variables()}, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        served = Ui(port, miniature)
        wait_for(lambda: is_up(served), 90, "the webserver answers")
        yield served
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
        log.close()


def is_up(served: Ui) -> bool:
    """True once the code location is loaded."""
    try:
        found = served.query("{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")
    except OSError:
        return False
    entries = found["workspaceOrError"].get("locationEntries", [])
    return [(entry["name"], entry["loadStatus"]) for entry in entries] == [("taskdiv", "LOADED")]


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Poll every second until something is so."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(1)
    pytest.fail(f"after {timeout_s:.0f} s it was still not so that {what}")


def test_every_asset_of_the_experiment_is_there(ui: Ui) -> None:
    found = ui.query("{ assetNodes { assetKey { path } groupName description hasMaterializePermission } }")
    nodes = [node for node in found["assetNodes"] if node["groupName"] == "miniature"]
    assert len(nodes) == 17
    assert all(node["description"] for node in nodes)


def test_the_sensor_has_registered_the_full_pool(ui: Ui) -> None:
    query = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        partitionKeysByDimension { name partitionKeys } } } }"""
    node = ui.query(query, key={"path": ["miniature", "allocation"]})["assetNodeOrError"]
    keys = {entry["name"]: entry["partitionKeys"] for entry in node["partitionKeysByDimension"]}
    assert {"12", "24", "142"} <= set(keys["budget"])
    assert keys["strategy"] == ["random", "facility_location", "weighted_task_diversity"]


def test_a_new_budget_is_backfilled_and_the_report_follows_and_a_bad_one_says_why(ui: Ui) -> None:
    report = ui.home.folder / "results/miniature/report/index.html"
    before = report.read_text()
    add_budget(ui, BUDGET)
    add_budget(ui, BAD_BUDGET)  # Dagster itself takes any text
    bad = launch_backfill(ui, [f"{BAD_BUDGET}|random"], "allocation")
    backfill = launch_backfill(ui, CELLS, "allocation", "annotation_batch", "adapter", "benchmark_scores")
    wait_for(lambda: backfill_status(ui, backfill) != "REQUESTED", 240, "the backfill ended")
    assert backfill_status(ui, backfill) == "COMPLETED_SUCCESS"
    assert (ui.home.folder / f"results/miniature/budgets/{BUDGET}").is_file()
    wait_for(lambda: report.read_text() != before, 150, "the report was made anew by itself")
    results = pq.read_table(report.with_name("results.parquet"), columns=["budget_n", "strategy"]).to_pylist()
    assert {f"{row['budget_n']}|{row['strategy']}" for row in results} >= set(CELLS)

    wait_for(lambda: backfill_status(ui, bad) != "REQUESTED", 120, "the bad budget's backfill ended")
    query = """query { runsOrError(limit: 20) { ... on Runs { results { status tags { key value } eventConnection { events {
        ... on ExecutionStepFailureEvent { failureMetadata { description } } } } } } } }"""
    runs = ui.query(query)["runsOrError"]["results"]
    failed = [run for run in runs if any(tag["value"] == f"{BAD_BUDGET}|random" for tag in run["tags"])]
    assert failed and failed[0]["status"] == "FAILURE"
    assert "not a positive whole number" in json.dumps(failed[0]["eventConnection"])
    ui.query(
        """mutation($name: String!, $keys: [String!]!, $selector: RepositorySelector!) { deleteDynamicPartitions(
            partitionsDefName: $name, partitionKeys: $keys, repositorySelector: $selector) { __typename } }""",
        name="miniature_budget",
        keys=[BAD_BUDGET],
        selector=SELECTOR,
    )


def add_budget(ui: Ui, key: str) -> None:
    """What the partition dialog sends."""
    added = ui.query(
        """mutation($name: String!, $key: String!, $selector: RepositorySelector!) { addDynamicPartition(
            partitionsDefName: $name, partitionKey: $key, repositorySelector: $selector) { __typename } }""",
        name="miniature_budget",
        key=key,
        selector=SELECTOR,
    )
    assert added["addDynamicPartition"]["__typename"] == "AddDynamicPartitionSuccess"


def launch_backfill(ui: Ui, keys: list[str], *assets: str) -> str:
    """What "Launch backfill" sends; its id."""
    launched = ui.query(
        """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
            __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
        params={"assetSelection": [{"path": ["miniature", name]} for name in assets], "partitionNames": keys},
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return str(launched["backfillId"])


def backfill_status(ui: Ui, backfill: str) -> str:
    """How a backfill stands."""
    query = (
        """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"""
    )
    return str(ui.query(query, id=backfill)["partitionBackfillOrError"]["status"])


def test_checks_are_recorded_with_their_cell(ui: Ui) -> None:
    query = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        assetChecksOrError { ... on AssetChecks { checks { name blocking executionForLatestMaterialization { status } } } }
        } } }"""
    node = ui.query(query, key={"path": ["miniature", "allocation"]})["assetNodeOrError"]
    checks = node["assetChecksOrError"]["checks"]
    assert len(checks) >= 5 and all(check["blocking"] for check in checks)


@pytest.mark.browser
def test_the_asset_group_opens_in_a_browser(ui: Ui, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    with chromium(tmp_path / "profile", width=1800, height=1200) as chrome:
        chrome.get(f"{ui.url}/locations/taskdiv/asset-groups/miniature/list")
        WebDriverWait(chrome, 60).until(lambda page: "raw_pool" in page.find_element(By.TAG_NAME, "body").text)
        text = chrome.find_element(By.TAG_NAME, "body").text
        assert all(name in text for name in ("raw_pool", "ranking", "allocation", "adapter"))
        assert [line for line in console_errors(chrome) if "127.0.0.1" not in line or "favicon" not in line] == []
