"""When Dagster requests the report: its own evaluation of the condition, over the records of a real instance and a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

import dagster as dg
import pyarrow as pa
import pytest
from dagster import AssetMaterialization, DataVersion
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from data_contracts.footer import Footer, Rejected
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.graph.lineage import sha256
from taskdiv_assets.orchestration import factory
from taskdiv_assets.orchestration.asset_paths import place
from taskdiv_assets.orchestration.automation import REPORT
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE, Home

CELLS = [f"{budget}|{strategy}" for budget in (12, 24) for strategy in ("random", "facility_location")]
STUDY = MINIATURE.read_text()
CAMPAIGN = """name: camp
purpose: campaign
pool: {reader: lab, seed: 1, tasks: [copy, reverse], largest_n: 40, smallest_n: 12}
strategies: [random]
budgets: [12, 24]
"""


@cache
def loaded(text: str) -> tuple[Experiment, dg.Definitions]:
    experiment = experiment_file.parse(text, "e.yaml")
    return experiment, factory.build(experiment, text)


class Daemon:
    """The daemon's sensor for the report, tick by tick.

    Results are recorded without being made: a table of one row, and a note whose version enters the report's identity.
    """

    def __init__(self, instance: dg.DagsterInstance, text: str) -> None:
        self.experiment, self.defs = loaded(text)
        self.store = Store(self.experiment.name)
        self.instance = instance
        self.cursor = None

    def made(self, asset: str, version: str, key: str | None = None, *, is_full_pool: bool = False) -> None:
        """Record that an asset was materialised, first in the store, then in Dagster."""
        self._store(asset, version, key)
        if asset != REPORT.asset:
            self.store.write_rejected(Rejected(asset, key, version))
        path, partition = place(self.experiment.name, asset, key, is_full_pool=is_full_pool)
        tags = {DATA_VERSION_TAG: DataVersion(version).value}
        self.instance.report_runless_asset_event(
            AssetMaterialization(dg.AssetKey(path), partition=partition, tags=tags)
        )

    def _store(self, asset: str, identity: str, key: str | None) -> None:
        files = {path: f"{path} of {identity}".encode() for path in REGISTRY[asset].files}
        for path, raw in files.items():
            self.store.put(raw, *path.split("/"))
        notes = {"files": {path: sha256(raw) for path, raw in files.items()}}
        footer = Footer(asset, key, identity, {}, 1, None, "", "", 0.0, notes=notes)
        self.store.write_table(pa.table({"n": [1]}), footer)

    def due(self) -> str:
        """Return the identity that the report should have now."""
        return REGISTRY.look(self.experiment, self.store).expect(REPORT).identity

    def report(self, identity: str = "") -> None:
        """Record that a report was made, with the present identity or with an earlier one."""
        self.made(REPORT.asset, identity or self.due())

    def evaluate(self) -> int:
        """Return how many runs of the report are requested."""
        key = dg.AssetKey([self.experiment.name, REPORT.asset])
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, asset_selection=dg.AssetSelection.assets(key), cursor=self.cursor
        )
        self.cursor = result.cursor
        return result.total_requested

    def tick(self) -> int:
        """Evaluate, and record that a requested report succeeds at once. Return the number of requests."""
        asked_n = self.evaluate()
        if asked_n:
            self.report()
        return asked_n

    def ticks(self, number: int = 3) -> list[int]:
        return [self.tick() for _ in range(number)]

    @contextmanager
    def running(self, asset: str, key: str) -> Iterator[None]:
        """Create a run that is to make a cell, and leave it unfinished during the block."""
        name = self.experiment.name
        run = self.instance.create_run_for_job(
            self.defs.resolve_job_def(f"{name}_cells"),
            asset_selection=frozenset({dg.AssetKey([name, asset])}),
            tags={"dagster/partition": key},
        )
        yield
        self.instance.delete_run(run.run_id)


def daemon_of(text: str) -> Iterator[Daemon]:
    with dg.DagsterInstance.ephemeral() as instance:
        daemon = Daemon(instance, text)
        instance.add_dynamic_partitions(f"{daemon.experiment.name}_budget", ["12", "24"])
        yield daemon


@pytest.fixture
def daemon(empty_home: Home) -> Iterator[Daemon]:
    yield from daemon_of(STUDY)


@pytest.fixture
def campaign(empty_home: Home) -> Iterator[Daemon]:
    yield from daemon_of(CAMPAIGN)


def test_an_experiment_that_was_never_run_asks_for_nothing(daemon: Daemon) -> None:
    assert daemon.ticks() == [0, 0, 0]
    daemon.made("raw_pool", "p")
    assert daemon.ticks() == [0, 0, 0]


def test_scores_that_were_there_before_the_daemon_lead_to_one_report_if_there_is_none(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert daemon.ticks() == [1, 0, 0]


def test_opening_the_ui_starts_no_report_run_when_nothing_changed(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    daemon.report()
    assert daemon.ticks() == [0, 0, 0]


def test_a_report_that_is_older_than_the_scores_at_the_first_start_is_made_once(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    daemon.report()
    daemon.made("benchmark_scores", "b", CELLS[1])
    assert daemon.ticks() == [1, 0, 0]


def test_scores_that_changed_while_the_daemon_was_down_lead_to_a_report(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert daemon.ticks() == [1, 0, 0]
    daemon.made("benchmark_scores", "other", CELLS[0])
    assert daemon.ticks() == [1, 0, 0]


def test_one_report_a_change_of_scores_though_other_cells_are_missing(daemon: Daemon) -> None:
    assert daemon.ticks(1) == [0]
    for asset, key in (("benchmark_scores", CELLS[0]), ("benchmark_scores", CELLS[1]), ("base_scores", None)):
        daemon.made(asset, f"of {key}", key)
        assert daemon.ticks() == [1, 0, 0]


def test_scores_of_the_full_pool_lead_to_a_report(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert daemon.ticks() == [1, 0, 0]
    daemon.made("benchmark_scores", "f", "142|random", is_full_pool=True)
    assert daemon.ticks() == [1, 0, 0]


def test_a_cell_that_was_run_again_and_gave_the_same_makes_no_new_report(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert daemon.ticks() == [1, 0, 0]
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert daemon.ticks() == [0, 0, 0]


def test_cells_that_are_scored_one_after_the_other_lead_to_one_report(daemon: Daemon) -> None:
    asked = daemon.tick()
    for key, following in pairwise(CELLS):
        with daemon.running("benchmark_scores", following):  # queued behind it
            with daemon.running("benchmark_scores", key):
                asked += daemon.tick()
                daemon.made("benchmark_scores", f"scores of {key}", key)
            asked += daemon.tick()
    assert asked == 0
    assert daemon.ticks() == [1, 0, 0]


def test_scores_that_change_while_the_report_is_made_are_not_forgotten(daemon: Daemon) -> None:
    """It may have read the store before."""
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert daemon.evaluate() == 1
    of_a = daemon.due()
    daemon.made("benchmark_scores", "b", CELLS[1])
    daemon.report(of_a)
    assert daemon.ticks() == [1, 0, 0]


def test_a_report_that_taskdiv_run_has_made_meanwhile_is_not_asked_for(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert daemon.ticks(1) == [1]
    daemon.made("benchmark_scores", "b", CELLS[1])
    daemon.report()
    assert daemon.ticks() == [0, 0, 0]


def test_a_report_that_fails_is_asked_for_once_and_again_when_there_is_news(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert [daemon.evaluate() for _ in range(3)] == [1, 0, 0]
    daemon.made("benchmark_scores", "b", CELLS[1])
    assert [daemon.evaluate() for _ in range(3)] == [1, 0, 0]


def test_the_report_of_a_campaign_begins_with_its_first_list_and_follows_the_answers(campaign: Daemon) -> None:
    campaign.made("raw_pool", "p")
    assert campaign.ticks() == [0, 0, 0]
    for asset, key in (("allocation", CELLS[0]), ("annotation_batch", CELLS[0]), ("annotations", None)):
        campaign.made(asset, f"{asset} of {key}", key)
        assert campaign.ticks() == [1, 0, 0]


def test_a_study_asks_for_no_report_of_lists_alone(daemon: Daemon) -> None:
    daemon.made("allocation", "a", CELLS[0])
    assert daemon.ticks() == [0, 0, 0]
