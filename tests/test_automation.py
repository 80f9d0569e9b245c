"""When the report is asked for by itself: Dagster's own evaluation of the condition, over records of a real instance."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import AssetMaterialization, DataVersion
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from taskdiv_assets import experiment_file
from taskdiv_assets.assets import factory
from tests.home import MINIATURE

CELLS = [f"{budget}|{strategy}" for budget in (12, 24, 36) for strategy in ("random", "facility_location")]
REPORT = dg.AssetKey(["miniature", "strategy_report"])


class Daemon:
    """The daemon's sensor for the report, tick by tick."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        text, origin = experiment_file.read_text(str(MINIATURE))
        self.defs = factory.build(experiment_file.parse(text, origin), text)
        self.instance = instance
        self.cursor = None
        self.runs_n = 0
        instance.add_dynamic_partitions("miniature_budget", ["12", "24", "36"])

    def made(self, asset: str, version: str, key: str | None = None) -> None:
        """An asset was materialised."""
        tags = {DATA_VERSION_TAG: DataVersion(version).value}
        self.instance.report_runless_asset_event(
            AssetMaterialization(dg.AssetKey(["miniature", asset]), partition=key, tags=tags)
        )

    def evaluate(self) -> int:
        """How many runs of the report are asked for."""
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, asset_selection=dg.AssetSelection.assets(REPORT), cursor=self.cursor
        )
        self.cursor = result.cursor
        return result.total_requested

    def tick(self) -> int:
        """The same; each of them ends well at once."""
        asked_n = self.evaluate()
        if asked_n:
            self.runs_n += 1
            self.made("strategy_report", f"report {self.runs_n}")
        return asked_n

    def scoring(self, key: str) -> dg.DagsterRun:
        """A run that is to score a cell, and has not ended."""
        return self.instance.create_run_for_job(
            self.defs.resolve_job_def("miniature_cells"),
            asset_selection=frozenset({dg.AssetKey(["miniature", "benchmark_scores"])}),
            tags={"dagster/partition": key},
        )


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Daemon(instance)


def ticks(daemon: Daemon, number: int = 3) -> list[int]:
    return [daemon.tick() for _ in range(number)]


def test_an_experiment_that_was_never_run_asks_for_nothing(daemon: Daemon) -> None:
    assert ticks(daemon) == [0, 0, 0]
    daemon.made("raw_pool", "p")
    assert ticks(daemon) == [0, 0, 0]


def test_scores_that_were_there_before_the_daemon_lead_to_one_report_if_there_is_none(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert ticks(daemon) == [1, 0, 0]


def test_at_the_first_start_a_report_that_is_there_is_looked_at_once(daemon: Daemon) -> None:
    """It may be older than the scores, which no event tells; one that is not is found done."""
    daemon.made("benchmark_scores", "a", CELLS[0])
    daemon.made("strategy_report", "r")
    assert ticks(daemon) == [1, 0, 0]


def test_one_report_a_change_of_scores_though_other_cells_are_missing(daemon: Daemon) -> None:
    assert ticks(daemon, 1) == [0]
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert ticks(daemon) == [1, 0, 0]
    daemon.made("benchmark_scores", "b", CELLS[1])
    assert ticks(daemon) == [1, 0, 0]
    daemon.made("base_scores", "c")
    assert ticks(daemon) == [1, 0, 0]


def test_a_cell_that_was_run_again_and_gave_the_same_makes_no_new_report(daemon: Daemon) -> None:
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert ticks(daemon) == [1, 0, 0]
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert ticks(daemon) == [0, 0, 0]
    daemon.made("benchmark_scores", "other", CELLS[0])
    assert ticks(daemon) == [1, 0, 0]


def test_six_cells_that_are_scored_one_after_the_other_lead_to_one_report(daemon: Daemon) -> None:
    assert ticks(daemon, 1) == [0]
    asked = 0
    for key, following in zip(CELLS, [*CELLS[1:], None], strict=True):
        run = daemon.scoring(key)
        asked += daemon.tick()
        daemon.made("benchmark_scores", f"scores of {key}", key)
        waiting = daemon.scoring(following) if following else None  # queued behind it
        if key == CELLS[2]:
            daemon.instance.report_run_failed(run)  # one of them fails: the report names it as missing
        else:
            daemon.instance.delete_run(run.run_id)
        asked += daemon.tick()
        if waiting is not None:
            daemon.instance.delete_run(waiting.run_id)
    assert asked == 1
    assert ticks(daemon) == [0, 0, 0]


def test_no_report_while_a_cell_is_being_scored(daemon: Daemon) -> None:
    assert ticks(daemon, 1) == [0]
    daemon.made("benchmark_scores", "a", CELLS[0])
    run = daemon.scoring(CELLS[1])
    assert ticks(daemon) == [0, 0, 0]
    daemon.instance.report_run_failed(run)
    assert ticks(daemon) == [1, 0, 0]


def test_scores_that_change_while_the_report_is_made_are_not_forgotten(daemon: Daemon) -> None:
    """It may have read the store before: what counts is when it was asked for, not when it was ready."""
    assert ticks(daemon, 1) == [0]
    daemon.made("benchmark_scores", "a", CELLS[0])
    assert daemon.evaluate() == 1
    daemon.made("benchmark_scores", "b", CELLS[1])
    daemon.made("strategy_report", "of a alone")
    assert ticks(daemon) == [1, 0, 0]


def test_a_report_that_somebody_else_made_meanwhile_is_asked_for_once_and_found_done(daemon: Daemon) -> None:
    """`taskdiv run` ends with the report; the daemon, which looks every 30 s, asks once more."""
    assert ticks(daemon, 1) == [0]
    daemon.made("benchmark_scores", "a", CELLS[0])
    daemon.made("strategy_report", "r")
    assert ticks(daemon) == [1, 0, 0]
