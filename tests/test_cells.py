"""Which partitions are cells of an experiment, and the error for one that is none."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from data_contracts.footer import Footer
from data_contracts.table_paths import REPORT_TABLE
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.graph import cells
from taskdiv_assets.graph.cells import Cell, PoolSize
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE, Home

POOL = PoolSize(142, is_answered=True)


@pytest.fixture
def store(empty_home: Home) -> Store:
    return Store("miniature")


def miniature(*replacements: tuple[str, str]) -> Experiment:
    text = MINIATURE.read_text()
    for old, new in replacements:
        text = text.replace(old, new)
    return experiment_file.parse(text, "m.yaml")


def refusal(store: Store, key: str, experiment: Experiment | None = None) -> str:
    try:
        cells.refuse_unexpected(experiment or miniature(), store, Cell.parse(key), POOL)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("key", ["12|random", "24|weighted_task_diversity", "15|random", "9999|random"])
def test_budgets_of_the_file_and_new_ones_pass(store: Store, key: str) -> None:
    """A new budget may be larger than the pool: the allocation says that in a sentence of its own."""
    assert refusal(store, key) == ""


@pytest.mark.parametrize("strategy", ["random", "facility_location"])
@pytest.mark.parametrize("is_known", [True, False])
def test_the_whole_pool_as_a_budget_is_refused_for_every_strategy(store: Store, strategy: str, is_known: bool) -> None:
    if is_known:
        cells.register(store, 142, is_full=True)
    said = refusal(store, f"142|{strategy}")
    assert "142 is the whole pool of miniature" in said and "job miniature_full_pool" in said and "`budgets`" in said


def test_the_whole_pool_is_an_ordinary_budget_where_the_file_says_so_or_no_full_pool_is_asked_for(store: Store) -> None:
    assert refusal(store, "142|facility_location", miniature(("[12, 24]", "[12, 142]"))) == ""
    assert refusal(store, "142|random", miniature(("full_pool_seeds: [0]", "full_pool_seeds: []"))) == ""


def test_the_size_of_an_earlier_pool_is_refused_until_it_is_added_as_a_budget(store: Store) -> None:
    cells.register(store, 130, is_full=True)
    assert "`taskdiv budget add miniature 130`" in refusal(store, "130|random")
    cells.register(store, 130)  # what that command does
    assert refusal(store, "130|random") == ""
    assert cells.registered(miniature(), store)[130] == "requested"


def test_a_requested_budget_stays_one(store: Store) -> None:
    cells.register(store, 30)
    cells.register(store, 30, is_full=True)
    assert cells.registered_kind(store, 30) == "requested"


def test_a_strategy_that_only_orders_the_full_pool_has_no_cells(store: Store) -> None:
    strategies = "[random, facility_location, weighted_task_diversity]"
    only = miniature(
        (strategies, "[facility_location, weighted_task_diversity]"),
        ("reference: random", "reference: facility_location"),
    )
    said = refusal(store, "12|random", only)
    assert "random is not among the strategies of miniature" in said and "add it to `strategies`" in said


def test_the_full_pool_says_why_it_cannot_be_made_yet() -> None:
    assert cells.full_pool(miniature(), POOL) == Cell(142, "random")
    for experiment, pool, said in (
        (miniature(), None, "materialise raw_pool first"),
        (miniature(), PoolSize(142, is_answered=False), "once all answers are known"),
        (miniature(("[12, 24]", "[12, 142]")), POOL, "in the job miniature_cells"),
    ):
        with pytest.raises(ValueError, match=said):
            cells.full_pool(experiment, pool)


FOREIGN = {
    "512": b"",
    "513": b"garbage",
    "514": b"[]",
    "515": b'{"kind": "other"}',
    "516": b"\xff\xfe",
    "0060": b'{"kind": "requested"}',
    "notes.txt": b"of a user",
    "1e3": b"{}",
    "517": b"[" * 100_000,
}


def test_an_empty_or_foreign_file_is_no_budget_and_stops_nothing(store: Store) -> None:
    cells.register(store, 30)
    for name, content in FOREIGN.items():
        store.put(content, "budgets", name)
    Path(store.path("budgets", "518")).mkdir()
    os.mkfifo(store.path("budgets", "519"))
    Path(store.path("budgets", "520")).symlink_to("nowhere")
    assert list(cells.registered(miniature(), store)) == [12, 24, 30]
    said = cells.foreign_budgets(store)
    for name in (*FOREIGN, "518", "519", "520"):
        assert any(store.locate("budgets", name) in sentence and "is ignored" in sentence for sentence in said), name
    assert len(said) == len(FOREIGN) + 3


def test_a_budget_takes_the_place_of_an_empty_file_and_never_of_somebody_else_s(store: Store) -> None:
    store.put(b"", "budgets", "512")
    cells.register(store, 512)
    assert cells.registered(miniature(), store)[512] == "requested"
    store.put(b"of a user", "budgets", "513")
    with pytest.raises(ValueError, match=r"budgets/513 is not a file of `taskdiv`; move it away"):
        cells.register(store, 513)
    assert store.get("budgets", "513") == b"of a user"


def test_the_report_ignores_the_same_files(store: Store) -> None:
    from data_contracts import stored
    from reports import expected_cells, experiment_view
    from reports.reader import Reader

    for name, content in {
        **FOREIGN,
        "30": b'{"kind": "requested"}',
        "40": b'{"kind": "full_pool"}',
        "50": b"{}",
    }.items():
        store.put(content, "budgets", name)
    folder = stored.open_folder(store.url)
    reader = Reader(folder, stored.list_tables(folder), [])
    found = expected_cells.read_budgets(reader, experiment_view.Experiment(name="x", budgets=(12,)), 45)
    assert (*found.ordinary, *found.ignored) == (12, 30, 50) and len(reader.problems) == len(FOREIGN)


def test_budgets_of_an_object_store_are_read_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, a hundred budgets would take seconds there at every command."""
    for number in (30, 40, 50):
        cells.register(store, number)
    together, kind = threading.Barrier(3, timeout=5), cells.registered_kind

    def waiting(store: Store, name: str) -> str | None:
        together.wait()
        return kind(store, name)

    monkeypatch.setattr(cells, "registered_kind", waiting)
    assert list(cells.registered(miniature(), store)) == [12, 24, 30, 40, 50]
    assert cells.foreign_budgets(store) == []


def test_a_table_of_another_version_of_the_code_is_out_of_date_and_not_held_to_the_contract_of_today(
    store: Store,
) -> None:
    now = REGISTRY[REPORT_TABLE].code_version
    found = {}
    for version in (now - 1, now, now + 1):
        footer = Footer(REPORT_TABLE, None, "i" * 32, {}, version, "run", "2026-01-01", "2026-01-02", 1.5)
        store.write_table(pa.table({"column_of_then": [1]}), footer)
        (found[version],) = check_stored(miniature(), store)
    assert found[now].failed and all(one.out_of_date for one in found.values())
    assert not found[now - 1].failed and not found[now + 1].failed
