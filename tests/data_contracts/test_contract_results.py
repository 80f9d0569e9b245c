"""The result of a broken rule: counts, examples with the key, short texts. Invalid input raises an error and is not skipped."""

import time
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pytest

import data_contracts
from data_contracts import RuleResult
from data_contracts.contract import parse
from data_contracts.expectations import plain
from data_contracts.validation import ValidationResult
from tests.data_contracts.contract_cases import good, put, table_of


def broken(name: str, rule: str, *cells: tuple[str, object, int]) -> RuleResult:
    """Return the result of one rule on the valid table with some cells replaced."""
    columns, parameters, _ = good(name)
    for column, value, row in cells:
        put(column, value, row)(columns, parameters)
    result = data_contracts.validate(data_contracts.load(name), table_of(name, columns), parameters)
    return next(found for found in result.rules if found.rule == rule)


def test_examples_name_the_row_and_the_value() -> None:
    result = broken("confidence_table", "confidence_in_range", ("confidence", 1.5, 2), ("confidence", -0.25, 3))
    assert result.unexpected_n == 2
    assert result.observed == "2 of 6 rows fail"
    assert result.examples == (
        {"prompt_id": f"{2:016x}", "confidence": 1.5},
        {"prompt_id": f"{3:016x}", "confidence": -0.25},
    )


def test_nan_is_found_by_not_null_and_shown_as_none() -> None:
    result = broken("benchmark_scores", "not_null", ("score", float("nan"), 4))
    assert result.unexpected_n == 1
    assert result.examples == (
        {
            "training_seed": 1,
            "benchmark": "lab",
            "task": "copy",
            "item_id": "1",
            "metric": "exact_match",
            "score": None,
        },
    )


def test_a_missing_text_is_shown_with_its_key() -> None:
    result = broken("annotations", "annotator_known", ("annotator", None, 1))
    assert result.examples == ({"prompt_id": f"{1:016x}", "annotator": None},)
    everyone = broken("annotations", "annotator_known", ("annotator", None, 0), ("annotator", None, 1))
    assert len(everyone.examples) == 2


def test_a_rule_on_several_columns_adds_up() -> None:
    cells = [("mean_margin", -0.5, 0), ("min_margin", 2.0, 1), ("min_margin", 2.0, 2)]
    result = broken("confidence_table", "margins_in_range", *cells)
    assert result.unexpected_n == 3
    assert [list(example) for example in result.examples] == [["prompt_id", "mean_margin"]] + [
        ["prompt_id", "min_margin"]
    ] * 2


def test_a_view_shows_what_it_counted() -> None:
    result = broken("allocation", "task_not_overdrawn", ("task", "copy", 1), ("task", "copy", 2))
    assert result.examples == ({"selection_seed": 0, "task": "copy", "prompts_n": 4, "available_n": 2},)


def test_both_sides_of_a_hash_are_shown() -> None:
    result = broken("base_model", "hashes_equal_files", ("sha256", "c" * 64, 0))
    assert result.examples == ({"file": "config.json", "stored": "c" * 64, "expected": "a" * 64},)


def test_a_condition_limits_the_examples_too() -> None:
    result = broken("strategy_report", "strategies_have_seed", ("training_seed", None, 11))
    assert result.unexpected_n == 1
    assert [example["strategy"] for example in result.examples] == ["random"]


def test_a_duplicate_shows_all_its_rows() -> None:
    result = broken("raw_pool", "position_unique", ("position", 4, 0))
    assert [example["prompt_id"] for example in result.examples] == [f"{0:016x}", f"{1:016x}"]


def test_a_statement_about_the_whole_table_says_what_was_seen() -> None:
    result = broken("confidence_table", "truncated_share", ("truncated", True, 0))
    assert (result.severity, result.unexpected_n, result.examples) == ("warning", 1, ())
    assert result.observed == "observed 0.6666666666666666"


def test_there_are_at_most_five_examples_and_long_texts_are_cut() -> None:
    ids = [f"{'x' * 100}{n}" for n in range(6)]
    result = broken("raw_pool", "prompt_id_format", *(("prompt_id", value, row) for row, value in enumerate(ids)))
    assert result.unexpected_n == 6
    assert len(result.examples) == 5
    assert {len(str(example["prompt_id"])) for example in result.examples} == {80}


def test_an_absent_parameter_is_an_error_that_names_rule_and_parameter() -> None:
    columns, parameters, _ = good("ranking")
    del parameters["depth"]
    with pytest.raises(
        ValueError, match=r"rule depth_reached of contract ranking needs parameter 'depth'.*selection_seeds"
    ):
        data_contracts.validate(data_contracts.load("ranking"), table_of("ranking", columns), parameters)
    with pytest.raises(ValueError, match="given: none"):
        data_contracts.validate(data_contracts.load("ranking"), table_of("ranking", columns))


def test_a_definition_of_confidence_that_is_none_is_refused() -> None:
    columns, parameters, _ = good("confidence_table")
    parameters["definition"] = "certainty"
    with pytest.raises(
        ValueError, match=r"confidence_table, confidence_equals_definition.*'certainty'.*geometric_mean"
    ):
        data_contracts.validate(
            data_contracts.load("confidence_table"), table_of("confidence_table", columns), parameters
        )


def test_a_confident_and_wrong_task_is_named() -> None:
    result = broken("confidence_accuracy", "not_confident_and_wrong", ("mean_confidence", 0.75, 2))
    assert (result.severity, result.unexpected_n) == ("warning", 1)
    assert [example["task"] for example in result.examples] == ["max"]


def test_one_prompt_scored_of_several_is_only_a_warning_and_may_lack_an_error() -> None:
    columns, parameters, _ = good("task_confidence")
    put("scored_n", 1, 2)(columns, parameters)
    put("standard_error", None, 2)(columns, parameters)
    result = data_contracts.validate(
        data_contracts.load("task_confidence"), table_of("task_confidence", columns), parameters
    )
    assert [failed.rule for failed in result.failed] == ["two_prompts_scored"]
    assert result.is_valid


def test_a_parameter_of_another_type_is_refused() -> None:
    columns, parameters, _ = good("allocation")
    parameters["selection_seeds"] = ["zero"]
    with pytest.raises(ValueError, match=r"allocation, seeds_equal_expected.*zero"):
        data_contracts.validate(data_contracts.load("allocation"), table_of("allocation", columns), parameters)


def test_an_expectation_that_great_expectations_does_not_know_is_an_error() -> None:
    from great_expectations.exceptions.exceptions import ExpectationNotFoundError

    text = (files("data_contracts") / "prompt_embeddings.odcs.yaml").read_text()
    contract = parse(text.replace("expect_column_values_to_be_between", "expect_nonsense"))
    columns, parameters, _ = good("prompt_embeddings")
    with pytest.raises(ExpectationNotFoundError):
        data_contracts.validate(contract, table_of("prompt_embeddings", columns), parameters)


def test_a_broken_warning_leaves_a_table_valid() -> None:
    warning = RuleResult("r", "warning", False, 1, (), "", "")
    error = RuleResult("s", "error", False, 1, (), "", "")
    assert ValidationResult((warning,)).is_valid
    assert not ValidationResult((warning, error)).is_valid
    assert ValidationResult((warning, error)).failed == (warning, error)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        (3.0, 3),
        (float("inf"), "inf"),
        (float("nan"), None),
        (None, None),
        (np.bool_(True), True),
        ("x" * 81, "x" * 79 + "…"),
        ("x" * 80, "x" * 80),
    ],
)
def test_plain_values(value: object, expected: object) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


@pytest.mark.full
def test_a_hundred_thousand_scores_are_validated_in_about_a_second() -> None:
    """Measured 0.6 s on two shared cores; the bound leaves room for a machine that is four times as busy."""
    seeds_n, items_n = 4, 25_000
    n = seeds_n * items_n
    names = [f"item-{i:05d}" for i in range(items_n)] * seeds_n
    columns = {
        "training_seed": np.repeat(np.arange(seeds_n), items_n),
        "selection_seed": np.repeat(np.arange(seeds_n), items_n),
        "benchmark": ["lab"] * n,
        "task": ["copy"] * n,
        "item_id": names,
        "metric": ["exact_match"] * n,
        "score": np.tile(np.linspace(0, 1, items_n), seeds_n),
        "prompt_hash": [f"hash of {name}" for name in names],
    }
    contract = data_contracts.load("benchmark_scores")
    table = pa.table([pa.array(columns[f.name], f.type) for f in contract.arrow_schema], schema=contract.arrow_schema)
    parameters = {"training_seeds": range(seeds_n), "expected_items": {"lab": items_n}, "lost_to_blanks": []}
    data_contracts.validate(contract, table.slice(0, 9), parameters)  # imports
    started = time.process_time()
    result = data_contracts.validate(contract, table, parameters)
    assert time.process_time() - started < 4
    assert result.failed == ()
    wrong = table.set_column(6, table.schema.field("score"), pa.array(np.full(n, 2.0)))
    started = time.process_time()
    result = data_contracts.validate(contract, wrong, parameters)
    assert time.process_time() - started < 4
    assert next(rule for rule in result.failed if rule.rule == "score_in_range").unexpected_n == n
