"""Arrow checks a table first, and large tables are checked in parts. The result is that of Great Expectations alone."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import data_contracts
from data_contracts import expectations, shortcuts
from tests.data_contracts.contract_cases import CASES, Break, good, table_of

SOME_OF = (
    8  # one case in so many belongs to the fast tests: a case takes a tenth of a second, and there are two hundred
)
EACH_CASE = [
    pytest.param(name, rule, changes[0], id=f"{name}-{rule}", marks=[pytest.mark.full] if number % SOME_OF else [])
    for number, (name, rule, changes) in enumerate(
        (name, rule, changes) for name, rules in CASES.items() for rule, changes in rules.items()
    )
]


def each_way(
    contract: data_contracts.Contract, table: pa.Table, parameters: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> list[data_contracts.ValidationResult]:
    """Return the results of the library alone, of Arrow and the library, and of both on a view that counts as large."""
    with monkeypatch.context() as patch:
        patch.setattr(shortcuts, "is_clear", lambda *_: False)
        found = [data_contracts.validate(contract, table, parameters)]
    found.append(data_contracts.validate(contract, table, parameters))
    with monkeypatch.context() as patch:
        patch.setattr(expectations, "ROWS_AT_ONCE", 3)
        return [*found, data_contracts.validate(contract, table, parameters)]


@pytest.mark.parametrize(("name", "rule", "change"), EACH_CASE)
def test_a_broken_rule_has_one_result(name: str, rule: str, change: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, parameters, _ = good(name)
    change(columns, parameters)
    contract = data_contracts.load(name)
    narrow = dataclasses.replace(contract, rules=(contract.rule("schema"), contract.rule(rule)))
    alone, *others = each_way(narrow, table_of(name, columns), parameters, monkeypatch)
    assert others == [alone, alone]


@pytest.mark.parametrize("name", data_contracts.names())
@pytest.mark.parametrize("rows_n", [None, pytest.param(0, marks=pytest.mark.full)])
def test_a_good_table_has_one_result(name: str, rows_n: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, parameters, _ = good(name)
    table = table_of(name, columns).slice(0, rows_n)
    alone, *others = each_way(data_contracts.load(name), table, parameters, monkeypatch)
    assert others == [alone, alone]


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
