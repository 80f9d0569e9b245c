"""Views compared with equal computations in plain Python."""

import math
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_contracts import views
from taskdiv_assets.confidence.measures import DEFINITIONS, SMALLEST, confidence

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


@given(SEEDED_RANKS, st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 4)), unique=True))
def test_wanted_combinations_are_found_exactly_where_a_row_holds_them(
    held: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    rows = views.found_or_not(ranked([*held, *held]), ["selection_seed", "rank"], wanted).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(*pair, pair in held) for pair in sorted(wanted)]


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


PROBABILITIES = st.lists(st.floats(2.0**-126, 1.0), min_size=1, max_size=5)


@given(PROBABILITIES)
@example([2.0**-126] * 5)  # the product is 0 in any float: the floor
def test_confidence_by_each_definition(probabilities: list[float]) -> None:
    log_probability = math.fsum(map(math.log, probabilities))
    columns = {
        "generated_n": pa.array([len(probabilities)], pa.int32()),
        "mean_probability": pa.array([math.fsum(probabilities) / len(probabilities)]),
        "first_probability": pa.array(probabilities[:1]),
        "min_probability": pa.array([min(probabilities)]),
        "sequence_log_probability": pa.array([log_probability]),
    }
    expected = {
        "mean_probability": math.fsum(probabilities) / len(probabilities),
        "geometric_mean": math.prod(p ** (1 / len(probabilities)) for p in probabilities),
        "min_probability": min(probabilities),
        "first_probability": probabilities[0],
        "sequence_probability": max(math.prod(probabilities), SMALLEST),
    }
    made = {name: confidence({k: v.to_numpy() for k, v in columns.items()}, name) for name in DEFINITIONS}
    assert made.keys() == views.DEFINITIONS.keys() == expected.keys()
    for name, values in made.items():
        for value in (values[0], expected[name]):
            found = views.defined_confidence(pa.table(columns | {"confidence": [value]}), name)
            assert found["relative_difference"].to_pylist() == pytest.approx([0.0], abs=1e-11)
        wrong = views.defined_confidence(pa.table(columns | {"confidence": [1.001 * expected[name]]}), name)
        assert wrong["relative_difference"].to_pylist() == pytest.approx([0.001])


VARIANT_ROWS = st.lists(
    st.tuples(WORDS, st.integers(1, 3), WORDS, st.booleans(), st.integers(0, 9)),
    unique_by=lambda row: row[:3],
)


@given(VARIANT_ROWS, st.dictionaries(WORDS, st.integers(1, 2)), st.integers(0, 3))
def test_counts_of_a_comparison(
    rows: list[tuple[str, int, str, bool, int]], sizes: dict[str, int], expected_n: int
) -> None:
    table = pa.table(
        {
            "source": pa.array([row[0] for row in rows], pa.string()),
            "definition": pa.array(["mean_probability" for _ in rows], pa.string()),
            "budget_n": pa.array([row[1] for row in rows], pa.int64()),
            "task": pa.array([row[2] for row in rows], pa.string()),
            "is_chosen": pa.array([row[3] for row in rows], pa.bool_()),
            "allocated_n": pa.array([row[4] for row in rows], pa.int64()),
        }
    )
    tasks = Counter(row[2] for row in rows)
    by_task = {row["task"]: row for row in views.per_pool_task(table, sizes, expected_n).to_pylist()}
    assert by_task == {
        task: {"task": task, "rows_n": tasks[task], "expected_n": expected_n if task in sizes else 0}
        for task in tasks.keys() | sizes.keys()
    }
    allocated = Counter[tuple[str, int]]()
    for source, budget_n, _, _, allocated_n in rows:
        allocated[source, budget_n] += allocated_n
    variants = views.per_variant(table, sizes).to_pylist()
    assert {(row["source"], row["budget_n"]): row["allocated_n"] for row in variants} == allocated
    assert all(row["available_n"] == min(row["budget_n"], sum(sizes.values())) for row in variants)
    chosen = {row[1:3]: 0 for row in rows} | Counter(row[1:3] for row in rows if row[3])
    found = views.per_budget_and_task(table).to_pylist()
    assert {(row["budget_n"], row["task"]): row["chosen_n"] for row in found} == chosen


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_rows_whose_columns_compare(pairs: list[tuple[int, int]]) -> None:
    table = pa.table({name: pa.array([pair[i] for pair in pairs], pa.int64()) for i, name in enumerate("ab")})
    found = views.where_columns(table, "a", "greater", "b").to_pylist()
    assert found == [{"a": a, "b": b, "difference": a - b} for a, b in pairs if a > b]
