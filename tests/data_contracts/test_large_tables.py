"""Large tables go another way through validation; the result is the same, whatever is broken."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import data_contracts
from data_contracts import expectations, shortcuts
from tests.data_contracts.contract_cases import CASES, Break, good, table_of

SOME_OF = (
    4  # one case in so many belongs to the fast tests: a case takes a tenth of a second, and there are two hundred
)
EACH_CASE = [
    pytest.param(name, rule, changes[0], id=f"{name}-{rule}", marks=[pytest.mark.full] if number % SOME_OF else [])
    for number, (name, rule, changes) in enumerate(
        (name, rule, changes) for name, rules in CASES.items() for rule, changes in rules.items()
    )
]


@pytest.mark.parametrize(("name", "rule", "change"), EACH_CASE)
def test_a_broken_rule_tells_the_same_of_a_large_table(
    name: str, rule: str, change: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every broken table of the contracts' own tests, with more rows than are looked at at once."""
    columns, parameters = good(name)
    change(columns, parameters)
    contract = data_contracts.load(name)
    narrow = dataclasses.replace(contract, rules=(contract.rule("schema"), contract.rule(rule)))
    expected = data_contracts.validate(narrow, table_of(name, columns), parameters)
    monkeypatch.setattr(expectations, "ROWS_AT_ONCE", 3)
    assert data_contracts.validate(narrow, table_of(name, columns), parameters) == expected


@pytest.mark.parametrize("name", data_contracts.names())
def test_a_good_table_is_good_when_it_is_large(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, parameters = good(name)
    expected = data_contracts.validate(data_contracts.load(name), table_of(name, columns), parameters)
    monkeypatch.setattr(expectations, "ROWS_AT_ONCE", 3)
    assert data_contracts.validate(data_contracts.load(name), table_of(name, columns), parameters) == expected


def test_rows_that_share_a_key_are_found_across_chunks_and_columns() -> None:
    draw = np.random.default_rng(0)
    seeds, names = draw.integers(3, size=400), draw.integers(150, size=400)
    texts = pa.chunked_array([[f"p{n}" for n in part] for part in np.array_split(names, 7)])
    table = pa.table({"seed": seeds, "name": texts, "one": np.zeros(400, np.int64)})
    frame = table.to_pandas()
    for columns in (["seed", "name"], ["name"], ["seed", "one", "name"]):
        found = shortcuts.repeated(table, columns)
        assert (found == frame.duplicated(columns, keep=False).to_numpy()).all()


def test_a_missing_value_is_never_cleared() -> None:
    rows = pa.table({"a": pa.array([1, 2, None], pa.int64()), "b": pa.array([1.0, 2.0, float("nan")])})
    assert not shortcuts.is_sorted(rows, ["a"]) and not shortcuts.is_sorted(rows, ["b"])
    for column in ("a", "b"):
        assert not shortcuts.is_clear("expect_column_values_to_not_be_null", {"column": column}, rows)
    pair = {"column_A": "a", "column_B": "a"}
    assert not shortcuts.is_clear("expect_column_pair_values_to_be_equal", pair, rows)
    assert shortcuts.repeated(rows, ["a"]).tolist() == shortcuts.repeated(rows, ["b"]).tolist() == [False, False, True]


def test_what_is_not_known_is_not_cleared() -> None:
    rows = pa.table({"a": [1, 2, 3]})
    assert shortcuts.is_clear("expect_column_values_to_be_between", {"column": "a", "min_value": 1}, rows)
    assert not shortcuts.is_clear("expect_column_values_to_be_between", {"column": "a", "mostly": 0.5}, rows)
    assert not shortcuts.is_clear("expect_column_mean_to_be_between", {"column": "a", "min_value": 0}, rows)
