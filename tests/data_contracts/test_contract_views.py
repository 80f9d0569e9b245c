"""Views against the same thing said in plain Python."""

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from data_contracts import views

WORDS = st.text("abc", max_size=2)
SEEDED_RANKS = st.lists(st.tuples(st.integers(0, 2), st.integers(-2, 4)), unique=True, max_size=12)


def ranked(pairs: list[tuple[int, int]]) -> pa.Table:
    seeds = pa.array([seed for seed, _ in pairs], pa.int64())
    return pa.table({"selection_seed": seeds, "rank": pa.array([rank for _, rank in pairs], pa.int64())})


@given(SEEDED_RANKS)
def test_ranks_have_no_gap_exactly_if_they_are_a_range(pairs: list[tuple[int, int]]) -> None:
    found = views.per_selection_seed(ranked(pairs)).to_pylist()
    gapless = {row["selection_seed"]: row["first_rank"] == 0 == row["unfilled_ranks_n"] for row in found}
    ranks = {seed: sorted(rank for s, rank in pairs if s == seed) for seed, _ in pairs}
    assert gapless == {seed: ranks[seed] == list(range(len(ranks[seed]))) for seed in ranks}
    assert {row["selection_seed"]: row["prompts_n"] for row in found} == Counter(seed for seed, _ in pairs)


@given(SEEDED_RANKS)
def test_rows_are_in_place_exactly_if_sorted(pairs: list[tuple[int, int]]) -> None:
    found = views.row_order(ranked(pairs), ["selection_seed", "rank"]).to_pylist()
    assert all(row["row"] == row["row_when_sorted"] for row in found) == (pairs == sorted(pairs))


@given(st.lists(WORDS), st.lists(WORDS))
def test_both_sides_are_equal_exactly_if_the_sets_are(found: list[str], expected: list[str]) -> None:
    table = pa.table({"id": pa.array(found, pa.string())})
    rows = views.both_sides(table, "id", expected).to_pylist()
    assert {row["id"] for row in rows if row["is_found"]} == set(found)
    assert {row["id"] for row in rows if row["is_expected"]} == set(expected)
    assert len(rows) == len(set(found) | set(expected))
    members = views.membership(table, "id", expected)["is_member"].to_pylist()
    assert members == [value in expected for value in found]


@given(st.dictionaries(WORDS, st.integers(0, 9)), st.dictionaries(WORDS, st.integers(0, 9)))
def test_stored_and_expected_side_by_side(stored: dict[str, int], expected: dict[str, int]) -> None:
    table = pa.table({"k": pa.array(list(stored), pa.string()), "v": pa.array(list(stored.values()), pa.int64())})
    rows = views.stored_and_expected(table, "k", "v", expected).to_pylist()
    assert {row["k"]: (row["stored"], row["expected"]) for row in rows} == {
        key: (stored.get(key), expected.get(key)) for key in stored | expected
    }
    looked_up = views.expected_value(table, "k", "v", expected)["expected"].to_pylist()
    assert looked_up == [expected.get(key) for key in stored]


@given(st.lists(st.tuples(st.integers(0, 2), WORDS)), st.dictionaries(WORDS, st.integers(0, 9)))
def test_counts_by_seed_and_task(pairs: list[tuple[int, str]], sizes: dict[str, int]) -> None:
    table = pa.table(
        {
            "selection_seed": pa.array([seed for seed, _ in pairs], pa.int64()),
            "task": pa.array([task for _, task in pairs], pa.string()),
        }
    )
    rows = views.per_seed_and_task(table, sizes).to_pylist()
    counts = {(row["selection_seed"], row["task"]): row["prompts_n"] for row in rows}
    assert counts == Counter(pairs)
    assert all(row["available_n"] == sizes.get(row["task"], 0) for row in rows)
    by_task = {row["task"]: row["prompts_n"] for row in views.per_task(table).to_pylist()}
    assert by_task == Counter(task for _, task in pairs)
