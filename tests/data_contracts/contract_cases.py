"""For every contract a small table that meets it, and for every rule a change that breaks the rule.

A case is a function that changes the valid columns (lists by name) and parameters in place. A test checks that every rule has a
case, so a new rule needs a new line here.
"""

import copy
import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

import data_contracts
from data_contracts.views import DEFINITIONS

Columns = dict[str, list[Any]]
Parameters = dict[str, Any]
Break = Callable[[Columns, Parameters], None]


class Good(NamedTuple):
    """A table that meets its contract, and the parameters for `validate`."""

    columns: Columns
    parameters: Parameters
    warnings: frozenset[str] = frozenset()  # rules that every table with rows breaks


IDS = [f"{n:016x}" for n in range(6)]
TASKS = ["copy", "copy", "flip", "flip", "max", "max"]  # of the six prompts
SIZES = {"copy": 2, "flip": 2, "max": 2}
SHA = ["a" * 64, "b" * 64]

CONFIDENCE: Columns = {
    "prompt_id": list(IDS),
    "generated_n": [1, 2, 3, 4, 5, 6],
    "truncated": [False, False, False, True, True, True],
    "mean_probability": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
    "first_probability": [0.5, 0.5, 0.5, 0.5, 0.5, 1.0],
    "min_probability": [0.5, 0.4, 0.3, 0.2, 0.1, 1.0],
    "sequence_log_probability": [-0.7, -1.1, -1.5, -2.0, -3.0, 0.0],
    "mean_entropy": [0.5, 0.4, 0.3, 0.2, 0.1, 0.0],
    "mean_margin": [0.1, 0.2, 0.3, 0.4, 0.5, 1.0],
    "min_margin": [0.1, 0.1, 0.1, 0.1, 0.0, 1.0],
    "confidence": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
}
ORDER = [0, 2, 4, 1, 3, 5]  # positions of prompts, as ranked for seed 0; seed 1 has them reversed


def _ranked(depth: int) -> Columns:
    rows = ORDER[:depth] + ORDER[::-1][:depth]
    return {
        "selection_seed": [0] * depth + [1] * depth,
        "rank": [*range(depth), *range(depth)],
        "prompt_id": [IDS[row] for row in rows],
        "task": [TASKS[row] for row in rows],
    }


def _scores(seeds: list[int | None]) -> Columns:
    items = [("bbh", "dates", "1"), ("lab", "copy", "1"), ("lab", "copy", "2")]
    cells = [(seed, *item) for seed in seeds for item in items]
    return {
        "training_seed": [cell[0] for cell in cells],
        "selection_seed": [cell[0] for cell in cells],
        "benchmark": [cell[1] for cell in cells],
        "task": [cell[2] for cell in cells],
        "item_id": [cell[3] for cell in cells],
        "metric": ["exact_match" for _ in cells],
        "score": [(0.5, 1.0, 0.0)[n % 3] for n, _ in enumerate(cells)],
        "prompt_hash": [f"hash of {cell[1:]}" for cell in cells],
    }


def _compared() -> Columns:
    """Return two definitions of the chosen source over samples, and a proxy over all prompts, at two budgets."""
    variants = [("chosen", "geometric_mean"), ("chosen", "mean_probability"), ("proxy", "mean_probability")]
    cells = [(*variant, budget_n, task) for variant in variants for budget_n in (3, 9) for task in SIZES]
    is_sampled = [source == "chosen" for source, *_ in cells]
    errors: list[float | None] = [0.05 if sampled else 0.0 for sampled in is_sampled]
    errors[0] = None
    return {
        "source": [cell[0] for cell in cells],
        "definition": [cell[1] for cell in cells],
        "budget_n": [cell[2] for cell in cells],
        "task": [cell[3] for cell in cells],
        "is_chosen": [cell[:2] == variants[1] for cell in cells],
        "mean_confidence": [0.5, 0.6, 1.0] * 6,
        "standard_error": errors,
        "allocated_n": ([1] * 3 + [2] * 3) * 3,
        "allocated_low_n": [low if sampled else None for low, sampled in zip([0, 1, 1] * 6, is_sampled, strict=True)],
        "allocated_high_n": [2 if sampled else None for sampled in is_sampled],
        "distance_by_sampling": [0.1 if sampled else 0.0 for sampled in is_sampled],
        "score_s": [0.0 if sampled else 1.5 for sampled in is_sampled],
    }


GOOD: Mapping[str, Good] = {
    "raw_pool": Good(
        {
            "prompt_id": list(IDS),
            "source_id": ["a", "b", "c", "d", None, None],
            "prompt": [f"prompt {n}" for n in range(6)],
            "response": ["yes", "no", "-", None, None, None],
            "source_task": [*TASKS[:5], None],
            "position": [5, 4, 3, 2, 1, 0],
        },
        {"dropped_copies": [], "held_out_ids": ["f" * 16]},
    ),
    "task_labels": Good(
        {"prompt_id": list(IDS), "task": list(TASKS), "how": ["column"] * 4 + ["mapping", "rules"]},
        {"pool_prompt_ids": list(IDS), "smallest_budget": 24, "agreement": 0.5, "vote_confidence": 0.7},
    ),
    "base_model": Good(
        {"file": ["config.json", "model.safetensors"], "bytes": [418, 1_044_992], "sha256": list(SHA)},
        {"actual_sha256": {"model.safetensors": SHA[1], "config.json": SHA[0]}},
    ),
    "confidence_table": Good(
        CONFIDENCE,
        {"scored_prompt_ids": IDS[::-1], "definition": "mean_probability", "max_tokens": 6},
    ),
    "prompt_embeddings": Good(
        {"prompt_id": list(IDS), "norm": [1.0, 1.004, 0.996, 1.0, 1.0, 1.0]}, {"pool_prompt_ids": list(IDS)}
    ),
    "template_embeddings": Good(
        {"prompt_id": list(IDS), "norm": [1.0, 1.004, 0.996, 1.0, 1.0, 1.0]}, {"pool_prompt_ids": list(IDS)}
    ),
    "sentence_embeddings": Good(
        {"prompt_id": list(IDS), "norm": [1.0, 1.004, 0.996, 0.0, 1.0, 1.0]}, {"pool_prompt_ids": list(IDS)}
    ),
    "task_confidence": Good(
        {
            "task": ["copy", "flip", "max", "sort"],
            "pool_n": [2, 4, 3, 1],
            "scored_n": [2, 2, 2, 1],
            "mean_confidence": [0.55, 0.75, 0.95, 1.0],
            "standard_error": [0.0, 0.05, 0.7, 0.0],
        },
        {"pool_task_sizes": {"copy": 2, "flip": 4, "max": 3, "sort": 1}, "estimable_from_n": 2},
    ),
    "confidence_comparison": Good(_compared(), {"pool_task_sizes": dict(SIZES), "rows_per_task": 6}),
    "confidence_accuracy": Good(
        {
            "task": ["copy", "flip", "max"],
            "items_n": [20, 1, 20],
            "mean_confidence": [0.2, 1.0, 0.411],
            "accuracy": [0.0, 1.0, 0.05],
            # A share's interval may miss it by the last bit where none or all are right.
            "accuracy_low": [1e-17, 0.2, 0.009],
            "accuracy_high": [0.161, 1 - 1e-15, 0.236],
            "answer_probability": [0.0, 1.0, 0.5],
        },
        {},
    ),
    "tuning_choice": Good(
        {
            "learning_rate": [1e-4, 1e-4, 1e-3, 1e-3],
            "training_seed": [0, 1, 0, 1],
            "examples_n": [64, 64, 64, 1],
            "validation_n": [16, 16, 16, 1],
            "validation_loss": [0.0, 2.5, 1.5, 1.25],
            "final_loss": [0.0, 0.5, None, 0.25],
            "train_s": [0.0, 2.0, None, 1.0],
        },
        {"learning_rates": [1e-3, 1e-4], "training_seeds": [1, 0], "held_out_trained": []},
    ),
    "round_confidence": Good(
        {
            "strategy": ["in_rounds"] * 4,
            "selection_seed": [0, 0, 0, 1],
            "after_n": [2, 2, 4, 2],
            "task": ["copy", "flip", "flip", "max"],
            "left_n": [1, 2, 1, 2],
            "scored_n": [1, 1, 1, 2],
            "mean_confidence": [1.0, 0.5, 0.25, 1e-9],
            "standard_error": [0.0, None, 0.0, 0.7],
            "adapter": [SHA[0][:32], SHA[0][:32], SHA[1][:32], SHA[1][:32]],
        },
        {"strategies": ["in_rounds"], "selection_seeds": [0, 1], "tasks": [*SIZES]},
    ),
    "ranking": Good(
        _ranked(6),
        {
            "pool_prompt_ids": list(IDS),
            "depth": 6,
            "selection_seeds": [1, 0],
            "prompt_tasks": dict(zip(IDS, TASKS, strict=True)),
        },
    ),
    "allocation": Good(
        _ranked(4),
        {
            "budget_n": 4,
            "selection_seeds": [0, 1],
            "pool_task_sizes": dict(SIZES),
            "bought_labels": [(0, IDS[ORDER[0]]), (1, IDS[ORDER[5]])],
            "held_out_ids": ["f" * 16],
        },
    ),
    "annotations": Good(
        {
            "prompt_id": IDS[:2],
            "response": ["yes", "no"],
            "annotator": ["Ada", "Bo"],
            "imported_at": [datetime.datetime(2026, 11, day, tzinfo=datetime.UTC) for day in (1, 2)],
            "batch": [SHA[0], SHA[1]],
            "row": [0, 0],
            "source": ["human", "model"],
            "model": [None, "m-1"],
            "input_tokens": [None, 9],
            "output_tokens": [None, 1],
            "is_draft_kept": [True, None],
        },
        {
            "pool_prompt_ids": list(IDS),
            "held_out_ids": ["f" * 16],
            "sources": ["human", "model"],
            "low_agreement": [],
        },
    ),
    "held_out_items": Good(
        {
            "prompt_id": IDS[:3],
            "source_id": ["a", None, None],
            "task": list(TASKS[:3]),
            "prompt": [f"prompt {n}" for n in range(3)],
            "response": ["yes", "no", None],
        },
        {"pool_prompt_ids": IDS[3:]},
    ),
    "contamination": Good(
        {
            "benchmark": ["bbh", "mmlu", "mmlu"],
            "task": ["navigate", "anatomy", "anatomy"],
            "item_id": ["1", "1", "1"],
            "prompt_id": [IDS[1], IDS[0], IDS[1]],
            "is_exact": [True, True, False],
        },
        {"pool_prompt_ids": list(IDS)},
        frozenset({"no_item_in_pool"}),
    ),
    "annotation_batch": Good(
        {
            "selection_seed": [0, 0, 1],
            "rank": [1, 2, 0],
            "prompt_id": [IDS[2], IDS[4], IDS[5]],
            "task": ["flip", "max", "max"],
            "prompt": ["prompt 2", "prompt 4", "prompt 5"],
        },
        {"answered_prompt_ids": [IDS[0], IDS[3]], "budget_n": 3},
    ),
    "adapter": Good(
        {
            "training_seed": [0, 1],
            "selection_seed": [0, 0],
            "folder": ["0" * 32, "1" * 32],
            "examples_n": [4, 4],
            "trained_tokens_n": [40, 41],
            "final_loss": [0.2, 0.0],
            "train_s": [1.5, 0.0],
            "sha256": list(SHA),
        },
        {
            "training_seeds": [0, 1],
            "budget_n": 4,
            "examples_max_n": 4,
            "actual_sha256": {"0" * 32: SHA[0], "1" * 32: SHA[1]},
            "held_out_trained": [],
        },
    ),
    "benchmark_scores": Good(
        _scores([0, 1]), {"training_seeds": [0, 1], "expected_items": {"lab": 2, "bbh": 1}, "lost_to_blanks": []}
    ),
    "base_scores": Good(_scores([None]), {"expected_items": {"lab": 2, "bbh": 1}, "lost_to_blanks": []}),
    "strategy_report": Good(
        {
            "quantity": ["difference", "labels_to_match", "mean", *["score"] * 9, "sent"],
            "benchmark": [*["lab"] * 12, ""],
            "metric": [*["exact_match"] * 12, ""],
            "strategy": ["k_center", "k_center", "random", *["base"] * 3, *["random"] * 7],
            "reference": ["random", "random", *[""] * 11],
            "budget_n": [4, 4, 4, *[0] * 3, *[4] * 7],
            "training_seed": [None] * 6 + [0] * 3 + [1] * 3 + [None],
            "task": ["", "", "", *["", "copy", "max"] * 3, ""],
            "estimate": [-0.1, None, 0.75, 0.2, 0.1, 0.3, 0.5, 0.4, 0.6, 1.0, 1.0, 1.0, 3.0],
            "low": [-0.3, None, 0.5, *[None] * 10],
            "high": [0.1, None, 1.0, *[None] * 10],
            "p_value": [0.4, *[None] * 12],
            "p_adjusted": [0.8, *[None] * 12],
            "verdict": ["not separable from noise", "not reached", *[""] * 11],
            "seeds_n": [2, 2, 2, *[1] * 10],
            "items_n": [4] * 3 + [4, 2, 2] * 3 + [4],
            "family": ["budgets", *[""] * 12],
            "p_value_cautious": [0.4, *[None] * 12],
            "standard_error": [0.1, None, 0.1, *[None] * 10],
            "df": [3.0, None, 3.0, *[None] * 10],
            "equivalence_low": [-0.2, *[None] * 12],
            "equivalence_high": [0.05, *[None] * 12],
            "equivalence": ["not shown", *[""] * 12],
        },
        {},
    ),
}


def table_of(name: str, columns: Columns) -> pa.Table:
    """Return an Arrow table with the schema of the contract. Nulls in required columns are not rejected."""
    schema = data_contracts.load(name).arrow_schema
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def good(name: str) -> Good:
    """Return a copy of the valid table and parameters."""
    return copy.deepcopy(GOOD[name])


def put(column: str, value: Any, row: int = 0) -> Break:
    """Return a case with another value in one cell."""

    def change(columns: Columns, _: Parameters) -> None:
        columns[column][row] = value

    return change


def parameter(**values: Any) -> Break:
    """Return a case with other values of parameters."""

    def change(_: Columns, parameters: Parameters) -> None:
        parameters.update(values)

    return change


def drop(*rows: int) -> Break:
    """Return a case without some rows."""

    def change(columns: Columns, _: Parameters) -> None:
        for values in columns.values():
            values[:] = [value for row, value in enumerate(values) if row not in rows]

    return change


def repeat(row: int) -> Break:
    """Return a case with one row twice."""

    def change(columns: Columns, _: Parameters) -> None:
        for values in columns.values():
            values.insert(row, values[row])

    return change


def reverse(columns: Columns, _: Parameters) -> None:
    """Reverse the rows."""
    for values in columns.values():
        values.reverse()


def everywhere(column: str, value: Any) -> Break:
    """Return a case with the same value in all rows."""

    def change(columns: Columns, _: Parameters) -> None:
        columns[column] = [value] * len(columns[column])

    return change


def discovered(**values: Any) -> Break:
    """All prompts are in found tasks, of which the first has four of six; parameters are replaced."""

    def change(columns: Columns, parameters: Parameters) -> None:
        columns["how"], columns["task"] = ["discovered"] * 6, ["copy"] * 4 + ["max"] * 2
        parameters |= values

    return change


def empty(columns: Columns, _: Parameters) -> None:
    for values in columns.values():
        values.clear()


def two_metrics_with_two_prompts(columns: Columns, parameters: Parameters) -> None:
    """Give one item two metrics with different prompts."""
    put("item_id", "2", 1)(columns, parameters)
    put("metric", "f1", 1)(columns, parameters)


def a_pseudo_value_far_away(columns: Columns, parameters: Parameters) -> None:
    """Set a score outside 0..1 for a metric whose single values may be outside, so that the mean is outside too."""
    put("metric", "length_controlled_win_rate")(columns, parameters)
    put("score", 7.0)(columns, parameters)


def a_mean_far_away(columns: Columns, parameters: Parameters) -> None:
    """Set the mean of a seed outside 0..1, for a metric whose single values may be outside."""
    put("metric", "length_controlled_win_rate", 6)(columns, parameters)
    put("estimate", 7.0, 6)(columns, parameters)


NAN = math.nan
SELECTION: Mapping[str, list[Break]] = {
    "seeds_equal_expected": [parameter(selection_seeds=[0, 1, 2]), parameter(selection_seeds=[0])],
    "ranks_without_gaps": [drop(1), put("rank", -1), put("rank", 9, 3)],
    "no_prompt_twice": [put("prompt_id", IDS[2], 0)],
}
SCORES: Mapping[str, list[Break]] = {
    "items_equal_expected": [
        drop(0),
        parameter(expected_items={"lab": 2}),
        parameter(expected_items={"mmlu": 9}),
    ],
    "score_in_range": [put("score", 1.1), put("score", -0.1)],
    "mean_in_range": [a_pseudo_value_far_away],
    "names_not_blank": [put("item_id", " "), put("prompt_hash", "")],
    "same_prompt_for_all": [],  # below, for each table
    "no_answer_lost_to_blanks": [parameter(lost_to_blanks=["bbh"])],
    "scores_differ": [everywhere("score", 0.0), everywhere("score", 1.0)],
}

# Rules that every table has are broken in the same way everywhere; `schema` has tests of its own.
DERIVED: Mapping[str, list[Break]] = {"key_unique": [repeat(0)], "sorted_by_key": [reverse]}
NULL: Mapping[str, list[Break]] = {
    "raw_pool": [put("prompt", None)],
    "task_labels": [put("task", None), put("how", None)],
    "base_model": [put("bytes", None)],
    "confidence_table": [put("mean_margin", NAN), put("confidence", NAN), put("truncated", None)],
    "prompt_embeddings": [put("norm", NAN)],
    "template_embeddings": [put("norm", NAN)],
    "sentence_embeddings": [put("norm", NAN)],
    "task_confidence": [put("mean_confidence", NAN)],
    "confidence_comparison": [put("source", None), put("allocated_n", None, 3), put("score_s", NAN)],
    "tuning_choice": [put("training_seed", None), put("examples_n", None)],
    "round_confidence": [put("mean_confidence", NAN), put("adapter", None)],
    "confidence_accuracy": [put("answer_probability", NAN), put("accuracy_low", None)],
    "ranking": [put("prompt_id", None), put("rank", None)],
    "allocation": [put("task", None)],
    "annotations": [put("imported_at", None)],
    "held_out_items": [put("task", None), put("prompt", None)],
    "contamination": [put("task", None), put("is_exact", None)],
    "annotation_batch": [put("prompt", None)],
    "adapter": [put("final_loss", NAN), put("trained_tokens_n", None)],
    "benchmark_scores": [put("score", NAN), put("metric", None)],
    "base_scores": [put("score", None)],
    "strategy_report": [put("verdict", None), put("quantity", None), put("family", None)],
}

OWN: Mapping[str, Mapping[str, list[Break]]] = {
    "raw_pool": {
        "has_rows": [empty],
        "prompt_id_format": [put("prompt_id", "0"), put("prompt_id", "00000000DEADBEEF")],
        "prompt_not_blank": [put("prompt", ""), put("prompt", " \n\t"), put("prompt", "\u200b\u3164")],
        "response_not_blank": [put("response", ""), put("response", " ")],
        "source_id_unique": [put("source_id", "b")],
        "position_unique": [put("position", 4)],
        "position_not_negative": [put("position", -1)],
        "prompt_unique": [put("prompt", "prompt 1")],
        "prompts_differ_visibly": [put("prompt", "prompt 1 "), put("prompt", "\nprompt 1")],
        "no_copies_dropped": [parameter(dropped_copies=["f" * 16])],
        "no_held_out_item": [parameter(held_out_ids=IDS[:1])],
    },
    "task_labels": {
        "prompts_equal_pool": [drop(0), parameter(pool_prompt_ids=IDS[:5])],
        "task_not_blank": [put("task", " ")],
        "how_known": [put("how", "guessed")],
        "tasks_have_two_prompts": [put("task", "only")],
        "tasks_differ": [everywhere("task", "copy")],
        "found_tasks_have_prompts": [put("how", "discovered"), everywhere("how", "discovered")],
        "found_tasks_are_enough": [discovered(smallest_budget=17)],
        "no_found_task_dominates": [discovered()],
        "found_tasks_are_stable": [discovered(agreement=0.49)],
        "voted_tasks_are_sure": [parameter(vote_confidence=0.69)],
        "tasks_spelled_one_way": [put("task", " copy"), put("task", "flip "), put("task", "COPY")],
    },
    "base_model": {
        "has_rows": [empty],
        "sha256_format": [put("sha256", "abc"), put("sha256", "G" * 64)],
        "bytes_not_negative": [put("bytes", -1)],
        "hashes_equal_files": [
            put("sha256", "c" * 64),
            parameter(actual_sha256={"config.json": SHA[0]}),
            parameter(actual_sha256={"config.json": SHA[0], "model.safetensors": SHA[1], "more.bin": SHA[1]}),
        ],
        "files_not_empty": [put("bytes", 0)],
    },
    "confidence_table": {
        "prompts_equal_scored": [drop(5), parameter(scored_prompt_ids=IDS[:5])],
        "generated_n_in_range": [put("generated_n", 0), put("generated_n", 7)],
        "probabilities_in_range": [put("min_probability", 0.0), put("first_probability", 1.01)],
        "confidence_in_range": [put("confidence", 0.0), put("confidence", -0.7), put("confidence", 1.5)],
        "confidence_equals_definition": [
            put("confidence", 0.5000001),
            *(parameter(definition=name) for name in DEFINITIONS if name != "mean_probability"),
        ],
        "min_not_above_mean": [put("min_probability", 0.6)],
        "margins_in_range": [put("mean_margin", -0.1), put("min_margin", 1.1)],
        "log_probability_in_range": [
            put("sequence_log_probability", 0.1),
            put("sequence_log_probability", -math.inf),
        ],
        "entropy_in_range": [put("mean_entropy", -0.1), put("mean_entropy", math.inf)],
        "truncated_share": [put("truncated", True)],
        "confidence_varies": [everywhere("confidence", 0.5)],
    },
    "prompt_embeddings": {
        "prompts_equal_pool": [drop(2), parameter(pool_prompt_ids=IDS[1:])],
        "norm_is_one": [put("norm", 0.99), put("norm", 1.01), put("norm", 0.0)],
    },
    "template_embeddings": {
        "prompts_equal_pool": [drop(2), parameter(pool_prompt_ids=IDS[1:])],
        "norm_is_one": [put("norm", 0.99), put("norm", 1.01), put("norm", 0.0)],
    },
    "sentence_embeddings": {
        "prompts_equal_pool": [drop(2), parameter(pool_prompt_ids=IDS[1:])],
        "norm_at_most_one": [put("norm", 1.01), put("norm", -0.1)],
    },
    "task_confidence": {
        "pool_n_equals_pool": [put("pool_n", 3), drop(1), parameter(pool_task_sizes={**SIZES, "new": 1})],
        "scored_n_not_above_pool_n": [put("scored_n", 3)],
        "every_task_scored": [put("scored_n", 0)],
        "mean_confidence_in_range": [put("mean_confidence", 0.0), put("mean_confidence", 1.1)],
        "standard_error_in_range": [put("standard_error", -0.1), put("standard_error", 0.71)],
        "standard_error_where_estimable": [put("standard_error", None, 1), put("standard_error", NAN)],
        "standard_error_zero_where_all_scored": [
            put("standard_error", 0.05),
            put("standard_error", None, 3),
            put("scored_n", 4, 1),
        ],
        "two_prompts_scored": [put("scored_n", 1)],
    },
    "confidence_comparison": {
        "every_task_in_every_variant": [
            drop(0),
            drop(0, 3, 6, 9, 12, 15),
            put("task", "unknown"),
            parameter(rows_per_task=5),
            parameter(pool_task_sizes={**SIZES, "new": 1}),
        ],
        "sums_to_budget": [
            put("allocated_n", 2),
            put("allocated_n", 1, 3),
            put("budget_n", 4),
            parameter(pool_task_sizes={**SIZES, "copy": 3}),
        ],
        "task_not_overdrawn": [
            put("allocated_n", 3),
            put("task", "unknown"),
            parameter(pool_task_sizes={**SIZES, "copy": 1}),
        ],
        "interval_within_task": [put("allocated_high_n", 3), parameter(pool_task_sizes={**SIZES, "copy": 1})],
        "counts_not_negative": [put("allocated_n", -1), put("allocated_low_n", -1)],
        "interval_has_both_ends": [
            put("allocated_low_n", None),
            put("allocated_high_n", None),
            put("allocated_low_n", 3),
        ],
        "allocated_not_below_interval": [put("allocated_low_n", 2), put("allocated_n", 0, 1)],
        "allocated_not_above_interval": [put("allocated_high_n", 0), put("allocated_n", 3)],
        "one_chosen": [put("is_chosen", True), put("is_chosen", False, 6)],
        "own_source_chosen": [put("is_chosen", True, 12)],
        "source_not_blank": [put("source", " ")],
        "definition_known": [put("definition", "certainty")],
        "mean_confidence_in_range": [put("mean_confidence", 0.0), put("mean_confidence", 1.1)],
        "standard_error_in_range": [put("standard_error", -0.1), put("standard_error", 0.71)],
        "distance_in_range": [put("distance_by_sampling", -0.1), put("distance_by_sampling", 1.1)],
        "score_s_not_negative": [put("score_s", -1.0)],
        "sampling_moves_few_labels": [put("distance_by_sampling", 0.11, 6)],
    },
    "tuning_choice": {
        "rates_equal_candidates": [parameter(learning_rates=[1e-4]), parameter(learning_rates=[1e-4, 1e-3, 1e-2])],
        "seeds_equal_expected": [parameter(training_seeds=[0]), parameter(training_seeds=[0, 1, 2])],
        "examples_positive": [put("examples_n", 0)],
        "validation_positive": [put("validation_n", 0)],
        "validation_loss_not_negative": [put("validation_loss", -0.1), put("validation_loss", math.inf)],
        "no_rate_diverged": [put("validation_loss", None)],
        "no_held_out_item_tried": [parameter(held_out_trained=["f" * 16])],
    },
    "round_confidence": {
        "strategies_equal_expected": [parameter(strategies=["in_rounds", "other"]), parameter(strategies=[])],
        "seeds_equal_expected": [parameter(selection_seeds=[0]), parameter(selection_seeds=[0, 1, 2])],
        "task_in_pool": [parameter(tasks=["copy", "flip"])],
        "after_n_positive": [put("after_n", 0)],
        "every_task_scored": [put("scored_n", 0)],
        "scored_n_not_above_left_n": [put("scored_n", 3)],
        "mean_confidence_in_range": [put("mean_confidence", 0.0), put("mean_confidence", 1.1)],
        "standard_error_in_range": [put("standard_error", -0.1), put("standard_error", 0.71)],
    },
    "confidence_accuracy": {
        "items_positive": [put("items_n", 0)],
        "mean_confidence_in_range": [put("mean_confidence", 0.0), put("mean_confidence", 1.1)],
        "shares_in_range": [
            put("accuracy", -0.1),
            put("accuracy_low", -0.1),
            put("accuracy_high", 1.1),
            put("answer_probability", 1.1),
        ],
        "accuracy_not_below_interval": [put("accuracy_low", 0.001)],
        "accuracy_not_above_interval": [put("accuracy_high", 0.04, 2)],
        "not_confident_and_wrong": [put("mean_confidence", 0.42), put("accuracy_high", 0.1, 2)],
    },
    "ranking": {
        **SELECTION,
        "depth_reached": [parameter(depth=5), drop(11)],
        "prompts_in_pool": [put("prompt_id", "f" * 16), parameter(pool_prompt_ids=[])],
        "task_equals_label": [put("task", "max"), parameter(prompt_tasks={})],
    },
    "held_out_items": {
        "has_rows": [empty],
        "not_in_pool": [parameter(pool_prompt_ids=list(IDS))],
        "response_not_blank": [put("response", " ")],
        "task_not_blank": [put("task", " ")],
    },
    "contamination": {
        "prompts_in_pool": [put("prompt_id", "f" * 16), parameter(pool_prompt_ids=IDS[1:])],
        "names_not_blank": [put("benchmark", ""), put("task", " "), put("item_id", "")],
        "no_item_in_pool": [drop(1, 2)],
    },
    "allocation": {
        **SELECTION,
        "no_held_out_item": [parameter(held_out_ids=[IDS[ORDER[0]]])],
        "sums_to_budget": [drop(7), parameter(budget_n=5)],
        "task_not_overdrawn": [put("task", "unknown"), parameter(pool_task_sizes={**SIZES, "copy": 1})],
        "bought_labels_inside": [
            parameter(bought_labels=[(0, IDS[ORDER[0]]), (0, IDS[ORDER[5]])]),  # in the selection of seed 1 only
            put("prompt_id", IDS[ORDER[5]], 0),
        ],
    },
    "annotations": {
        "prompts_in_pool": [put("prompt_id", "f" * 16)],
        "no_held_out_item": [parameter(held_out_ids=list(IDS))],
        "response_not_blank": [put("response", ""), put("response", "\n")],
        "batch_not_blank": [put("batch", "")],
        "row_not_negative": [put("row", -1)],
        "source_declared": [parameter(sources=["human"])],
        "annotator_known": [put("annotator", None)],
        "annotators_agree": [parameter(low_agreement=["alpha 0.41 on 20 short answers"])],
    },
    "annotation_batch": {
        "no_prompt_answered": [put("prompt_id", IDS[3])],
        "no_prompt_twice": [put("prompt_id", IDS[4], 0)],
        "rank_within_budget": [put("rank", 3, 1), put("rank", -1, 0)],
        "prompt_not_blank": [put("prompt", " ")],
        "task_not_blank": [put("task", "")],
    },
    "adapter": {
        "no_held_out_item_trained": [parameter(held_out_trained=["f" * 16])],
        "seeds_equal_expected": [parameter(training_seeds=[0, 1, 2]), drop(1)],
        "hashes_equal_files": [put("sha256", "c" * 64), parameter(actual_sha256={})],
        "sha256_format": [put("sha256", "c" * 63)],
        "folder_unique": [put("folder", "1" * 32)],
        "examples_within_budget": [put("examples_n", 5), put("examples_n", 0)],
        "trained_tokens_positive": [put("trained_tokens_n", 0)],
        "final_loss_finite": [put("final_loss", math.inf), put("final_loss", -1.0)],
        "train_s_not_negative": [put("train_s", -1.0)],
        "examples_equal_budget": [put("examples_n", 3)],
        "final_loss_plausible": [put("final_loss", 11.0)],
    },
    "benchmark_scores": {
        **SCORES,
        "seeds_equal_expected": [parameter(training_seeds=[0]), drop(3, 4, 5)],
        "seeds_present": [put("training_seed", None, 5), put("selection_seed", None)],
        "same_prompt_for_all": [put("prompt_hash", "another")],
    },
    "base_scores": {
        **SCORES,
        "seeds_absent": [put("training_seed", 0), put("selection_seed", 0)],
        "same_prompt_for_all": [two_metrics_with_two_prompts],
    },
    "strategy_report": {
        "score_in_range": [put("estimate", 1.1, 3), put("estimate", -0.1, 3)],
        "length_controlled_in_range": [a_mean_far_away],
        "scores_present": [put("estimate", None, 0), put("estimate", None, 2)],
        "interval_in_order": [put("low", 0.2), put("high", 0.4, 2)],
        "cautious_not_below_own": [put("p_value_cautious", 0.3)],
        "adjusted_not_below_cautious": [put("p_value_cautious", 0.9)],
        "quantities_known": [put("quantity", "rank")],
        "items_positive": [put("items_n", 0)],
        "names_not_blank": [put("metric", "")],
        "counted_strategies_not_blank": [put("strategy", " ", 12)],
        "counts_in_range": [put("estimate", 5.0, 12)],
        "base_budget_zero": [put("budget_n", 4, 3)],
        "base_without_seed": [put("training_seed", 0, 3)],
        "strategies_have_budget": [put("budget_n", 0, 6)],
        "strategies_have_seed": [put("training_seed", None, 11)],
        "one_macro_a_line": [drop(3), put("task", "", 4)],
        "macro_is_mean_of_tasks": [put("estimate", 0.3, 3)],
        "has_rows": [empty],
    },
}

CASES: Mapping[str, Mapping[str, list[Break]]] = {
    name: {**DERIVED, "not_null": NULL[name], **OWN[name]} for name in data_contracts.names()
}
