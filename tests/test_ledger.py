"""The ledger compared with plain definitions: prompts bought, prompts that a campaign puts first, and a stable partition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.annotating import ledger
from taskdiv_assets.annotating.ledger import Entry, SentList, note
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.services.ordering import put_first
from taskdiv_assets.storage.store import Store
from tests.home import Home

IDS = st.sampled_from("abcdefgh")
ENTRIES = st.lists(
    st.builds(
        SentList,
        st.builds(Cell, st.sampled_from([2, 4, 8]), st.sampled_from(["random", "min_margin"])),
        st.integers(0, 1),
        st.lists(IDS, unique=True, max_size=4).map(tuple),
        st.lists(IDS, unique=True, max_size=3).map(tuple),
    ),
    max_size=6,
)


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Draw an order of some rows of a pool, and disjoint groups of the pool's rows."""
    pool_n = draw(st.integers(1, 12))
    order = draw(st.permutations(range(pool_n)))[: draw(st.integers(1, pool_n))]
    groups: list[list[int]] = [[], [], []]
    for row in draw(st.permutations(range(pool_n))):
        group = draw(st.integers(-1, 2))
        if group >= 0:
            groups[group].append(row)
    return order, [group for group in groups if group]


@given(orders())
def test_put_first_is_a_stable_partition_as_long_as_before(case: tuple[list[int], list[list[int]]]) -> None:
    order, groups = case
    found = put_first(np.array(order), [np.array(group) for group in groups]).tolist()
    expected = []
    for group in groups:
        expected += [row for row in order if row in group] + [row for row in group if row not in order]
    expected += [row for row in order if row not in expected]
    assert found == expected[: len(order)]
    assert len(set(found)) == len(order)


@given(orders())
def test_put_first_changes_nothing_twice_nor_without_groups(case: tuple[list[int], list[list[int]]]) -> None:
    order, groups = np.array(case[0]), [np.array(group) for group in case[1]]
    once = put_first(order, groups)
    assert put_first(once, groups).tolist() == once.tolist()
    assert put_first(order, []).tolist() == order.tolist()


@given(ENTRIES, st.sets(IDS), st.sampled_from([2, 4, 8]), st.sets(st.integers(0, 1)))
def test_bought_is_what_went_out_for_the_list_and_came_back(
    entries: list[SentList], annotated: set[str], budget_n: int, seeds: set[int]
) -> None:
    answers = {prompt_id: "yes" if prompt_id in annotated else None for prompt_id in "abcdefg"}  # h left the pool
    found = ledger.bought(entries, answers, Cell(budget_n, "random"), seeds)
    assert found == sorted(set(found))
    for seed in (0, 1):
        for prompt_id in "abcdefgh":
            is_bought = prompt_id in annotated - {"h"} and seed in seeds and any(
                entry.cell.strategy == "random" and entry.cell.budget_n <= budget_n
                and entry.selection_seed == seed and prompt_id in {*entry.prompt_ids, *entry.already_sent_ids} for entry in entries
            )  # fmt: skip
            assert ((seed, prompt_id) in found) == is_bought


@given(ENTRIES, st.sets(IDS))
def test_kept_first_goes_by_budget_and_leaves_out_what_others_bought(
    entries: list[SentList], annotated: set[str]
) -> None:
    groups = ledger.kept_first(entries, annotated, "random")
    kept = [prompt_id for group in groups for prompt_id in group]
    lists = [(e.cell.budget_n, {*e.prompt_ids, *e.already_sent_ids}) for e in entries if e.cell.strategy == "random"]
    own = {i: min(n for n, ids in lists if i in ids) for i in kept if any(i in ids for _, ids in lists)}
    of_others = {i for e in entries if e.cell.strategy != "random" for i in e.prompt_ids} - own.keys()
    assert sorted(kept) == sorted(annotated - of_others)
    assert kept == sorted(kept, key=lambda prompt_id: (own.get(prompt_id, 99), prompt_id))
    assert all(groups) and len({own.get(i, 99) for i in kept}) == len(groups)


def test_what_an_export_notes_is_read(empty_home: Home) -> None:
    store = Store("camp")
    note(store, Entry("1000|random", 7, "20261124T100000.000000Z", ("a", "b"), already_sent_ids=("c",)))
    assert ledger.read(store) == [SentList(Cell(1000, "random"), 7, ("a", "b"), ("c",))]


def test_a_file_that_is_no_entry_is_named(empty_home: Home) -> None:
    store = Store("camp")
    assert ledger.read(store) == []
    store.put(
        b'{"cell": "8|random", "exported_at": "20260101T000000.000000Z", "selection_seed": 0, "prompt_ids": ["a"], "more": 1}',
        "exports",
        "1.json",
    )
    assert ledger.read(store) == [SentList(Cell(8, "random"), 0, ("a",))]
    store.put(b'{"cell": "8|random"}', "exports", "2.json")
    with pytest.raises(ValueError, match=r"exports/2.json is not an entry of the export ledger"):
        ledger.read(store)
