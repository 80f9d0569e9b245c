"""Every rule has an effect: a valid table meets all rules, and each rule has a table that breaks it."""

import dataclasses
import json

import pyarrow as pa
import pytest

import data_contracts
from tests.data_contracts.contract_cases import CASES, Break, good, table_of

# One case of each rule belongs to the fast tests.
EACH_CASE = [
    pytest.param(name, rule, change, id=f"{name}-{rule}-{n}", marks=[pytest.mark.full] if n else [])
    for name, rules in CASES.items()
    for rule, changes in rules.items()
    for n, change in enumerate(changes)
]


@pytest.mark.parametrize("name", data_contracts.names())
def test_a_good_table_keeps_every_rule(name: str) -> None:
    columns, parameters, warnings = good(name)
    contract = data_contracts.load(name)
    result = data_contracts.validate(contract, table_of(name, columns), parameters)
    assert {rule.rule for rule in result.failed} == warnings
    assert result.is_valid
    assert [rule.rule for rule in result.rules] == [rule.name for rule in contract.rules]


@pytest.mark.parametrize(("name", "rule", "change"), EACH_CASE)
def test_a_broken_table_breaks_the_rule(name: str, rule: str, change: Break) -> None:
    columns, parameters, _ = good(name)
    change(columns, parameters)
    contract = data_contracts.load(name)
    narrow = dataclasses.replace(contract, rules=(contract.rule("schema"), contract.rule(rule)))  # saves time
    result = data_contracts.validate(narrow, table_of(name, columns), parameters)
    broken = {failed.rule: failed for failed in result.failed}
    assert rule in broken, result
    assert broken[rule].unexpected_n >= 1
    assert broken[rule].severity == contract.rule(rule).severity
    assert result.is_valid == all(failed.severity == "warning" for failed in result.failed)
    json.dumps([dataclasses.asdict(failed) for failed in result.rules], allow_nan=False)  # what the footer needs


@pytest.mark.parametrize("name", data_contracts.names())
def test_no_rule_is_without_a_case_that_breaks_it(name: str) -> None:
    rules = {rule.name for rule in data_contracts.load(name).rules} - {"schema"}  # broken below, for every table
    assert rules == {rule for rule, changes in CASES[name].items() if changes}


@pytest.mark.parametrize("name", data_contracts.names())
def test_a_table_without_a_column_breaks_schema_and_nothing_counts_as_checked(name: str) -> None:
    columns, parameters, _ = good(name)
    table = table_of(name, columns).drop_columns(list(columns)[:1])
    result = data_contracts.validate(data_contracts.load(name), table, parameters)
    schema, *others = result.rules
    assert (schema.rule, schema.passed, schema.unexpected_n) == ("schema", False, 1)
    assert schema.observed == f"column {next(iter(columns))} is missing"
    assert {(other.passed, other.observed) for other in others} == {(False, "not checked: the schema differs")}


@pytest.mark.parametrize("name", ["annotations", "annotation_batch", "confidence_accuracy", "contamination"])
def test_a_table_without_rows_keeps_its_contract(name: str) -> None:
    table = data_contracts.load(name).arrow_schema.empty_table()
    result = data_contracts.validate(data_contracts.load(name), table, good(name).parameters)
    assert result.failed == ()


def test_a_comparison_at_no_budget_keeps_its_contract() -> None:
    contract = data_contracts.load("confidence_comparison")
    parameters = {"pool_task_sizes": {"copy": 2}, "rows_per_task": 0}
    assert data_contracts.validate(contract, contract.arrow_schema.empty_table(), parameters).failed == ()


@pytest.mark.parametrize("name", data_contracts.names())
def test_a_table_without_rows_gets_a_result_for_every_rule(name: str) -> None:
    table = data_contracts.load(name).arrow_schema.empty_table()
    result = data_contracts.validate(data_contracts.load(name), table, good(name).parameters)
    assert len(result.rules) == len(data_contracts.load(name).rules)


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        ("generated_n", pa.int64(), "column generated_n is int64 not null; expected int32 not null"),
        (
            "prompt_id",
            pa.large_string(),
            "column prompt_id is large_string not null; expected string not null",
        ),
        ("confidence", pa.float32(), "column confidence is float not null; expected double not null"),
    ],
)
def test_schema_says_which_type_differs(column: str, kind: pa.DataType, message: str) -> None:
    columns, parameters, _ = good("confidence_table")
    table = table_of("confidence_table", columns)
    place = table.schema.get_field_index(column)
    table = table.set_column(place, pa.field(column, kind, nullable=False), table[column].cast(kind))
    result = data_contracts.validate(data_contracts.load("confidence_table"), table, parameters)
    assert result.rules[0].observed == message
    assert result.rules[0].examples == ({"difference": message},)


def test_schema_says_what_else_differs() -> None:
    contract = data_contracts.load("prompt_embeddings")
    good_table = table_of("prompt_embeddings", good("prompt_embeddings").columns)

    def observed(table: pa.Table) -> str:
        return data_contracts.validate(contract, table, {"pool_prompt_ids": []}).rules[0].observed

    nullable = pa.schema([field.with_nullable(True) for field in good_table.schema])
    both = "column prompt_id is string null; expected string not null; column norm is double null; "
    assert observed(good_table.cast(nullable)) == both + "expected double not null"
    order = "columns stand in the order norm, prompt_id; expected prompt_id, norm"
    assert observed(good_table.select(["norm", "prompt_id"])) == order
    more = good_table.append_column("extra", good_table["norm"])
    assert observed(more) == "column extra is not in the contract"
    twice = good_table.append_column(good_table.schema.field("norm"), good_table["norm"])
    assert observed(twice) == "column norm is there 2 times"


def test_metadata_of_the_schema_is_nobodys_business() -> None:
    columns, parameters, _ = good("ranking")
    table = table_of("ranking", columns).replace_schema_metadata({"taskdiv": "{}"})
    assert data_contracts.validate(data_contracts.load("ranking"), table, parameters).is_valid
