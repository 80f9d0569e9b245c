"""What a rule looks at when single rows of a table are not enough.

A view turns the stored table, and what the caller knows of other tables, into a table with one row per
thing that can be wrong: a prompt, a seed, a task of a seed. An ordinary expectation on it is then the
rule. Views decide nothing about right or wrong, and hold no thresholds. Everything stays in Arrow, so
that even the slowest, a count of distinct values over 100,000 rows, takes two tenths of a second.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.shortcuts import is_sorted

Values: TypeAlias = Sequence[object] | pa.Array | pa.ChunkedArray  # as the caller has them


def rows(table: pa.Table) -> pa.Table:
    """The table as it is."""
    return table


def where(table: pa.Table, column: str, comparison: str, value: object) -> pa.Table:
    """The rows whose `column` compares with `value` as Arrow's function says (equal, greater_equal …)."""
    return table.filter(pc.call_function(comparison, [table[column], pa.scalar(value)]))


def where_all(table: pa.Table, conditions: Sequence[Sequence[object]]) -> pa.Table:
    """The rows that meet every condition: a column, Arrow's name of a comparison, and a value."""
    for column, comparison, value in conditions:
        table = where(table, str(column), str(comparison), value)
    return table


def where_columns(table: pa.Table, column: str, comparison: str, other: str) -> pa.Table:
    """The rows whose two columns compare as Arrow's function says, with `difference`, the one less the other."""
    kept = pc.call_function(comparison, [table[column], table[other]])
    return difference(table.filter(kept), column, other)


def row_order(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Each row with its place now (`row`) and its place in a table sorted by `key` (`row_when_sorted`)."""
    # A stable sort: on a sorted table, with or without equal keys, the two columns are the same.
    row = pa.array(np.arange(table.num_rows))
    keys = table.select(key).append_column("row", row)
    if is_sorted(table, key):  # a look costs a tenth of a sort
        return keys.append_column("row_when_sorted", row)
    order = pc.sort_indices(table, sort_keys=[(column, "ascending") for column in key])
    return keys.append_column("row_when_sorted", order.cast(pa.int64()))


def membership(table: pa.Table, column: str, values: Values) -> pa.Table:
    """Each row with `is_member`: does its `column` stand among `values`?

    Great Expectations has `in_set` for this, but compares a set of 100,000 in 7 s; Arrow does in 0.02.
    """
    wanted = _array(values, table[column].type)
    return table.append_column("is_member", pc.is_in(table[column], value_set=wanted))


def expected_value(table: pa.Table, column: str, value: str, expected: Mapping[Any, Any] | pa.Table) -> pa.Table:
    """Each row with `expected`: what that mapping gives for its `column`, in the type of `value`, or null.

    A pool of millions gives the mapping as an Arrow table of two columns, `column` and `value`: as a dict it would have 3 GB.
    """
    return table.append_column("expected", _look_up(table[column], expected, table[value].type))


def listed(table: pa.Table, values: Values) -> pa.Table:
    """One row a value that the caller lists; the table itself says nothing of it."""
    return pa.table({"value": _array(values, pa.string())})


def trimmed(table: pa.Table, column: str) -> pa.Table:
    """Each different value of `column`, with `trimmed`: the same without white space around it."""
    values = pc.unique(table[column])
    return pa.table({column: values, "trimmed": pc.utf8_trim_whitespace(values)})


def both_sides(table: pa.Table, column: str, expected: Values) -> pa.Table:
    """Each distinct value that `column` holds or that is `expected`, with `is_found` and `is_expected`."""
    found = pc.unique(table[column])
    wanted = _array(expected, found.type)
    values = pc.unique(pa.chunked_array([found, wanted]))
    is_found = pc.is_in(values, value_set=found)
    is_expected = pc.is_in(values, value_set=wanted)
    return pa.table({column: values, "is_found": is_found, "is_expected": is_expected})


def found_or_not(table: pa.Table, columns: list[str], wanted: Sequence[Sequence[object]]) -> pa.Table:
    """Each wanted combination of values of some columns, with `is_found`: does a row of the table hold it?"""
    values = zip(*wanted, strict=True) if wanted else [()] * len(columns)
    asked = pa.table({name: pa.array(each, table[name].type) for name, each in zip(columns, values, strict=True)})
    held = table.group_by(columns).aggregate([])
    held = held.append_column("is_found", pa.repeat(pa.scalar(True), held.num_rows))
    found = asked.join(held, columns, join_type="left outer").sort_by([(name, "ascending") for name in columns])
    return found.set_column(len(columns), "is_found", pc.fill_null(found["is_found"], False))


def stored_and_expected(table: pa.Table, column: str, value: str, expected: Mapping[Any, Any]) -> pa.Table:
    """Each name that `column` or `expected` has, its `stored` and its `expected` value; null where absent."""
    names = both_sides(table, column, list(expected))[column]
    stored = table[value].take(pc.index_in(names, value_set=table[column].combine_chunks()))
    return pa.table({column: names, "stored": stored, "expected": _look_up(names, expected, table[value].type)})


def difference(table: pa.Table, minuend: str, subtrahend: str) -> pa.Table:
    """Each row with `difference`, the one column less the other."""
    return table.append_column("difference", pc.subtract(table[minuend], table[subtrahend]))


def defined_confidence(table: pa.Table, definition: str) -> pa.Table:
    """Each row with `relative_difference`: confidence less what the definition gives, as a share of the latter.

    A share, since the probability of a long sequence is itself far below any absolute tolerance.

    Raises:
        ValueError: there is no such definition.
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"there is no definition {definition!r} of confidence; known: {', '.join(DEFINITIONS)}")
    given = DEFINITIONS[definition](table)
    share = pc.divide(pc.subtract(table["confidence"], given), given)
    return table.append_column("relative_difference", share)


def per_selection_seed(table: pa.Table) -> pa.Table:
    """One row a selection seed: `prompts_n`, `first_rank`, `last_rank`, and `unfilled_ranks_n` between."""
    groups = table.group_by("selection_seed").aggregate(
        [("rank", "count"), ("rank", "min"), ("rank", "max"), ("rank", "count_distinct")]
    )
    unfilled_n = pc.subtract(pc.add(groups["rank_max"], 1), groups["rank_count_distinct"])
    return pa.table(
        {
            "selection_seed": groups["selection_seed"],
            "prompts_n": groups["rank_count"],
            "first_rank": groups["rank_min"],
            "last_rank": groups["rank_max"],
            "unfilled_ranks_n": unfilled_n,
        }
    )


def per_seed_and_task(table: pa.Table, task_sizes: Mapping[str, int]) -> pa.Table:
    """One row a selection seed and task: `prompts_n`, and `available_n` in the pool (unknown task: 0)."""
    groups = table.group_by(["selection_seed", "task"]).aggregate([([], "count_all")])
    available_n = pc.fill_null(_look_up(groups["task"], task_sizes, pa.int64()), 0)
    return groups.rename_columns({"count_all": "prompts_n"}).append_column("available_n", available_n)


def per_task(table: pa.Table) -> pa.Table:
    """One row a task: `prompts_n`."""
    return table.group_by("task").aggregate([([], "count_all")]).rename_columns({"count_all": "prompts_n"})


def tasks_of_source(table: pa.Table) -> pa.Table:
    """One row with `tasks_n`, the number of tasks; none where nobody named tasks (`how` is none for every prompt)."""
    named = table.filter(pc.not_equal(table["how"].cast(pa.string()), "none"))
    counts = [len(pc.unique(named["task"]))] if named.num_rows or not table.num_rows else []
    return pa.table({"tasks_n": pa.array(counts, pa.int64())})


def per_spelling(table: pa.Table) -> pa.Table:
    """One row a task: `spelling`, as Python writes it, and `spellings_n`, the tasks that differ from it in spelling only.

    Spellings are the same task if they agree without case, without white space around them or more of it inside, and with
    composed accents.
    """
    plain = {task: _plain(task) for task in pc.unique(table["task"]).to_pylist() if task is not None}
    counts = Counter(plain.values())
    tasks = sorted(plain, key=lambda task: (plain[task], task))
    return pa.table(
        {
            "spelling": pa.array([repr(task) for task in tasks], pa.string()),
            "spellings_n": pa.array([counts[plain[task]] for task in tasks], pa.int64()),
        }
    )


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(unicodedata.normalize("NFC", folded).split())


def per_seed_and_benchmark(
    table: pa.Table, expected_items: Mapping[str, int], training_seeds: Sequence[int | None] = (None,)
) -> pa.Table:
    """One row a training seed and benchmark, found or expected: `scores_n` and `expected_n`."""
    groups = table.group_by(["training_seed", "benchmark"]).aggregate([([], "count_all")]).to_pylist()
    found = {(group["training_seed"], group["benchmark"]): group["count_all"] for group in groups}
    wanted = {(seed, name): n for seed in training_seeds for name, n in expected_items.items()}
    cells = list(found | wanted)
    return pa.table(
        {
            "training_seed": pa.array([seed for seed, _ in cells], pa.int64()),
            "benchmark": pa.array([benchmark for _, benchmark in cells], pa.string()),
            "scores_n": pa.array([found.get(cell, 0) for cell in cells], pa.int64()),
            "expected_n": pa.array([wanted.get(cell, 0) for cell in cells], pa.int64()),
        }
    )


def per_item(table: pa.Table) -> pa.Table:
    """One row a benchmark item: `prompts_n`, the number of different prompts its scores were made from."""
    groups = table.group_by(["benchmark", "task", "item_id"]).aggregate([("prompt_hash", "count_distinct")])
    return groups.rename_columns({"prompt_hash_count_distinct": "prompts_n"})


def per_benchmark_and_metric(table: pa.Table) -> pa.Table:
    """One row a benchmark and metric: `mean_score` over all items and seeds."""
    groups = table.group_by(["benchmark", "metric"]).aggregate([("score", "mean")])
    return groups.rename_columns({"score_mean": "mean_score"})


def per_line(table: pa.Table) -> pa.Table:
    """One row a benchmark, metric, strategy, budget and seed: how its score over all tasks came to be.

    `macro_n` counts the rows over all tasks; `macro_error` is how far that score is from the plain mean over
    the tasks, null where there are no rows by task.
    """
    table = where(table, "quantity", "equal", "score")
    is_macro = pc.equal(table["task"], "")
    null = pa.scalar(None, pa.float64())
    lines = (
        table.append_column("is_macro", pc.cast(is_macro, pa.int64()))
        .append_column("macro", pc.if_else(is_macro, table["estimate"], null))
        .append_column("of_task", pc.if_else(is_macro, null, table["estimate"]))
        .group_by(["benchmark", "metric", "strategy", "budget_n", "training_seed"])
        .aggregate([("is_macro", "sum"), ("macro", "mean"), ("of_task", "mean")])
    )
    macro_error = pc.abs(pc.subtract(lines["macro_mean"], lines["of_task_mean"]))
    counted = lines.drop_columns(["macro_mean", "of_task_mean"]).rename_columns({"is_macro_sum": "macro_n"})
    return counted.append_column("macro_error", macro_error)


def per_pool_task(table: pa.Table, task_sizes: Mapping[str, int], expected_n: int) -> pa.Table:
    """One row a task, found or of the pool: `rows_n`, and `expected_n` (unknown task: 0)."""
    tasks = both_sides(table, "task", list(task_sizes))
    found = table.group_by("task").aggregate([([], "count_all")])
    rows_n = pc.fill_null(found["count_all"].take(pc.index_in(tasks["task"], found["task"].combine_chunks())), 0)
    wanted_n = pc.multiply(pc.cast(tasks["is_expected"], pa.int64()), expected_n)
    return pa.table({"task": tasks["task"], "rows_n": rows_n, "expected_n": wanted_n})


def per_variant(table: pa.Table, task_sizes: Mapping[str, int]) -> pa.Table:
    """One row a source, definition and budget: `allocated_n` over all tasks, and `available_n` of it in the pool."""
    groups = table.group_by(["source", "definition", "budget_n"]).aggregate([("allocated_n", "sum")])
    available_n = pc.min_element_wise(groups["budget_n"], sum(task_sizes.values()))
    return groups.rename_columns({"allocated_n_sum": "allocated_n"}).append_column("available_n", available_n)


def per_budget_and_task(table: pa.Table) -> pa.Table:
    """One row a budget and task: `chosen_n`, the number of sources and definitions that are the chosen one."""
    as_number = table.append_column("chosen", pc.cast(table["is_chosen"], pa.int64()))
    groups = as_number.group_by(["budget_n", "task"]).aggregate([("chosen", "sum")])
    return groups.rename_columns({"chosen_sum": "chosen_n"})


VIEWS: Mapping[str, Callable[..., pa.Table]] = {
    view.__name__: view
    for view in (
        rows,
        where,
        where_all,
        where_columns,
        row_order,
        membership,
        expected_value,
        listed,
        trimmed,
        both_sides,
        found_or_not,
        stored_and_expected,
        difference,
        defined_confidence,
        per_selection_seed,
        per_seed_and_task,
        per_task,
        tasks_of_source,
        per_spelling,
        per_seed_and_benchmark,
        per_item,
        per_benchmark_and_metric,
        per_line,
        per_pool_task,
        per_variant,
        per_budget_and_task,
    )
}


def _floored_exp(log_probability: pa.ChunkedArray) -> pa.ChunkedArray:
    """Probabilities, none of them below the smallest normal float32: a confidence is never 0."""
    return pc.max_element_wise(pc.exp(log_probability), SMALLEST_PROBABILITY)


SMALLEST_PROBABILITY = 2.0**-126
DEFINITIONS: Mapping[str, Callable[[pa.Table], pa.ChunkedArray]] = {
    "mean_probability": lambda table: table["mean_probability"],
    "geometric_mean": lambda table: _floored_exp(
        pc.divide(table["sequence_log_probability"], pc.cast(table["generated_n"], pa.float64()))
    ),
    "min_probability": lambda table: table["min_probability"],
    "first_probability": lambda table: table["first_probability"],
    "sequence_probability": lambda table: _floored_exp(table["sequence_log_probability"]),
}


def _look_up(keys: pa.ChunkedArray, mapping: Mapping[Any, Any] | pa.Table, value_type: pa.DataType) -> pa.ChunkedArray:
    """What `mapping` gives for each key, null where it has nothing."""
    given, values = mapping.columns if isinstance(mapping, pa.Table) else (list(mapping), list(mapping.values()))
    return _array(values, value_type).take(pc.index_in(keys, value_set=_array(given, keys.type)))


def _array(values: Values, value_type: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(value_type) if isinstance(values, pa.Array) else pa.array(list(values), value_type)
