"""The requests that Dagster's UI sends to its webserver when a user clicks: budgets, backfills, runs, checks."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from tests.dagster_dev import Ui

SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": "taskdiv"}
CELL_ASSETS = ("allocation", "annotation_batch", "adapter", "benchmark_scores")


class Run(NamedTuple):
    run_id: str
    status: str
    tags: dict[str, str]
    assets: tuple[str, ...]


def add_budget(ui: Ui, experiment: str, key: str) -> None:
    """Add a budget as the partition dialog does."""
    added = ui.query(
        """mutation($name: String!, $key: String!, $selector: RepositorySelector!) { addDynamicPartition(
            partitionsDefName: $name, partitionKey: $key, repositorySelector: $selector) { __typename } }""",
        name=f"{experiment}_budget",
        key=key,
        selector=SELECTOR,
    )
    assert added["addDynamicPartition"]["__typename"] == "AddDynamicPartitionSuccess"


def delete_budget(ui: Ui, experiment: str, key: str) -> None:
    """Delete a budget as the page of partitions does."""
    ui.query(
        """mutation($name: String!, $keys: [String!]!, $selector: RepositorySelector!) { deleteDynamicPartitions(
            partitionsDefName: $name, partitionKeys: $keys, repositorySelector: $selector) { __typename } }""",
        name=f"{experiment}_budget",
        keys=[key],
        selector=SELECTOR,
    )


def budgets(ui: Ui, experiment: str) -> set[str]:
    """Return the budgets in the partition dialog."""
    query = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        partitionKeysByDimension { name partitionKeys } } } }"""
    node = ui.query(query, key={"path": [experiment, "allocation"]})["assetNodeOrError"]
    return set({entry["name"]: entry["partitionKeys"] for entry in node["partitionKeysByDimension"]}["budget"])


def launch_backfill(ui: Ui, experiment: str, keys: list[str] | None, *assets: str) -> str:
    """Launch a backfill of some partitions, or of all if `keys` is None, and return its id."""
    chosen: dict[str, Any] = {"allPartitions": True} if keys is None else {"partitionNames": keys}
    launched = ui.query(
        """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
            __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
        params={"assetSelection": [{"path": [experiment, name]} for name in assets], **chosen},
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return str(launched["backfillId"])


def backfill_status(ui: Ui, backfill: str) -> str:
    query = (
        """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"""
    )
    return str(ui.query(query, id=backfill)["partitionBackfillOrError"]["status"])


def runs(ui: Ui, **tags: str) -> list[Run]:
    """Return the runs that have all of these tags, the newest first."""
    found = ui.query(
        """query($filter: RunsFilter) { runsOrError(filter: $filter, limit: 500) { ... on Runs { results {
            runId status tags { key value } assetSelection { path } } } } }""",
        filter={"tags": [{"key": key, "value": value} for key, value in tags.items()]},
    )["runsOrError"]["results"]
    return [
        Run(
            run["runId"],
            run["status"],
            {tag["key"]: tag["value"] for tag in run["tags"]},
            tuple(key["path"][-1] for key in run["assetSelection"] or ()),
        )
        for run in found
    ]


def materialisations(ui: Ui, experiment: str, asset: str) -> Counter[str | None]:
    """Return how often each partition of an asset was materialised."""
    query = """query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
        assetMaterializations(limit: 1000) { partition } } } }"""
    found = ui.query(query, key={"path": [experiment, asset]})["assetOrError"]
    return Counter(entry["partition"] for entry in found.get("assetMaterializations", ()))


def log(ui: Ui, run_id: str) -> list[str]:
    """Return the messages on the page of a run, with the sentence of a failed step."""
    query = """query($id: ID!) { runOrError(runId: $id) { ... on Run { eventConnection { events {
        ... on MessageEvent { message } ... on ExecutionStepFailureEvent { failureMetadata { description } } } } } } }"""
    events = ui.query(query, id=run_id)["runOrError"]["eventConnection"]["events"]
    return [f"{event['message']} {(event.get('failureMetadata') or {}).get('description') or ''}" for event in events]


def metadata(ui: Ui, experiment: str, asset: str, partition: str | None = None) -> dict[str, str]:
    """Return texts, paths and Markdown of the newest materialisation."""
    query = """query($key: AssetKeyInput!, $partitions: [String!]) { assetOrError(assetKey: $key) { ... on Asset {
        assetMaterializations(limit: 1, partitions: $partitions) { metadataEntries { label
        ... on TextMetadataEntry { text } ... on PathMetadataEntry { path } ... on UrlMetadataEntry { url }
        ... on MarkdownMetadataEntry { mdStr } } } } } }"""
    partitions = None if partition is None else [partition]
    found = ui.query(query, key={"path": [experiment, asset]}, partitions=partitions)["assetOrError"]
    entries = found["assetMaterializations"][0]["metadataEntries"]
    return {entry["label"]: next(iter([v for k, v in entry.items() if k != "label"]), "") for entry in entries}
