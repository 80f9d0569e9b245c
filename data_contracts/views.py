"""Views: tables that are derived from a stored table, for rules that cannot be checked on the rows of the stored table.

A view has one row for each thing that can break the rule, such as a prompt, seed or task. The rule is then an ordinary
expectation on the view. All views use Arrow: the slowest, a count of distinct values over 100,000 rows, takes 0.2 s.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.shortcuts import is_sorted

Values: TypeAlias = Sequence[object] | pa.Array | pa.ChunkedArray


def rows(table: pa.Table) -> pa.Table:
    return table


def where(table: pa.Table, column: str, comparison: str, value: object) -> pa.Table:
    """Return the rows where Arrow's function `comparison` (equal, greater_equal …) is true for `column` and `value`."""
    return table.filter(pc.call_function(comparison, [table[column], pa.scalar(value)]))


def where_all(table: pa.Table, conditions: Sequence[Sequence[object]]) -> pa.Table:
    """Return the rows that meet all conditions. A condition is a column, the name of an Arrow comparison, and a value."""
    for column, comparison, value in conditions:
        table = where(table, str(column), str(comparison), value)
    return table


def where_columns(table: pa.Table, column: str, comparison: str, other: str) -> pa.Table:
    """Return the rows where Arrow's `comparison` of `column` and `other` is true, with `difference` (`column` − `other`)."""
    kept = pc.call_function(comparison, [table[column], table[other]])
    return difference(table.filter(kept), column, other)


def row_order(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Return the columns of `key`, `row` (the row numbers) and `row_when_sorted` (the row numbers in the order of `key`)."""
    # The sort is stable: if the table is sorted, the two columns are equal, also with equal keys.
    row = pa.array(np.arange(table.num_rows))
    keys = table.select(key).append_column("row", row)
    if is_sorted(table, key):  # the check needs a tenth of the time of a sort
        return keys.append_column("row_when_sorted", row)
    order = pc.sort_indices(table, sort_keys=[(column, "ascending") for column in key])
    return keys.append_column("row_when_sorted", order.cast(pa.int64()))


def membership(table: pa.Table, column: str, values: Values) -> pa.Table:
    """Add the column `is_member`: whether the value in `column` is one of `values`.

    Great Expectations' `in_set` needs 7 s for a set of 100,000 values. Arrow needs 0.02 s.
    """
    wanted = _array(values, table[column].type)
    return table.append_column("is_member", pc.is_in(table[column], value_set=wanted))


def expected_value(table: pa.Table, column: str, value: str, expected: Mapping[Any, Any] | pa.Table) -> pa.Table:
    """Add the column `expected`: for the key in `column`, its value in the mapping `expected`, or null if the key is not in it.

    The new column has the type of the column `value`. For a pool of millions of prompts, the mapping is an Arrow table of keys
    and values, because a dict would need 3 GB.
    """
    return table.append_column("expected", _look_up(table[column], expected, table[value].type))


def listed(table: pa.Table, values: Values) -> pa.Table:
    """Return one row for each value in `values`. The content of the table is not used."""
    return pa.table({"value": _array(values, pa.string())})


def trimmed(table: pa.Table, column: str) -> pa.Table:
    """Return the distinct values of `column`, with `trimmed`: the value without white space at its ends."""
    values = pc.unique(table[column])
    return pa.table({column: values, "trimmed": pc.utf8_trim_whitespace(values)})


def both_sides(table: pa.Table, column: str, expected: Values) -> pa.Table:
    """Return the distinct values of `column` and `expected`, with `is_found` (in `column`) and `is_expected` (in `expected`)."""
    found = pc.unique(table[column])
    wanted = _array(expected, found.type)
    values = pc.unique(pa.chunked_array([found, wanted]))
    is_found = pc.is_in(values, value_set=found)
    is_expected = pc.is_in(values, value_set=wanted)
    return pa.table({column: values, "is_found": is_found, "is_expected": is_expected})


def found_or_not(table: pa.Table, columns: list[str], wanted: Sequence[Sequence[object]]) -> pa.Table:
    """Return one row for each combination of values in `wanted`. `is_found` is true if a table row has them in `columns`."""
    values = zip(*wanted, strict=True) if wanted else [()] * len(columns)
    asked = pa.table({name: pa.array(each, table[name].type) for name, each in zip(columns, values, strict=True)})
    held = table.group_by(columns).aggregate([])
    held = held.append_column("is_found", pa.repeat(pa.scalar(True), held.num_rows))
    found = asked.join(held, columns, join_type="left outer").sort_by([(name, "ascending") for name in columns])
    return found.set_column(len(columns), "is_found", pc.fill_null(found["is_found"], False))


def stored_and_expected(table: pa.Table, column: str, value: str, expected: Mapping[Any, Any]) -> pa.Table:
    """Return one row for each name in `column` or `expected`.

    `stored` is the name's value in the column `value`, and `expected` its value in the mapping; null if there is none.
    """
    names = both_sides(table, column, list(expected))[column]
    stored = table[value].take(pc.index_in(names, value_set=table[column].combine_chunks()))
    return pa.table({column: names, "stored": stored, "expected": _look_up(names, expected, table[value].type)})


def difference(table: pa.Table, minuend: str, subtrahend: str) -> pa.Table:
    """Add the column `difference`: minuend − subtrahend."""
    return table.append_column("difference", pc.subtract(table[minuend], table[subtrahend]))


def defined_confidence(table: pa.Table, definition: str) -> pa.Table:
    """Add the column `relative_difference`: (confidence − value) / value, where `value` is computed by the definition.

    The difference is relative because the probability of a long sequence is far below any absolute tolerance. Raise ValueError
    if there is no such definition.
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"there is no definition {definition!r} of confidence; known: {', '.join(DEFINITIONS)}")
    given = DEFINITIONS[definition](table)
    share = pc.divide(pc.subtract(table["confidence"], given), given)
    return table.append_column("relative_difference", share)


def per_selection_seed(table: pa.Table) -> pa.Table:
    """Return `prompts_n`, `first_rank`, `last_rank` and `unfilled_ranks_n` (unused ranks before the last) by selection seed."""
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
    """Return `prompts_n` (rows) and `available_n` (the size in `task_sizes`, or 0) for each selection seed and task."""
    groups = table.group_by(["selection_seed", "task"]).aggregate([([], "count_all")])
    available_n = pc.fill_null(_look_up(groups["task"], task_sizes, pa.int64()), 0)
    return groups.rename_columns({"count_all": "prompts_n"}).append_column("available_n", available_n)


def per_task(table: pa.Table) -> pa.Table:
    """Return `prompts_n`, the number of rows, for each task."""
    return table.group_by("task").aggregate([([], "count_all")]).rename_columns({"count_all": "prompts_n"})


def tasks_of_source(table: pa.Table) -> pa.Table:
    """Return one row with `tasks_n`, the number of tasks in rows whose `how` is not "none".

    If `how` is "none" in every row, return no row. An empty table gives one row with 0.
    """
    named = table.filter(pc.not_equal(table["how"].cast(pa.string()), "none"))
    counts = [len(pc.unique(named["task"]))] if named.num_rows or not table.num_rows else []
    return pa.table({"tasks_n": pa.array(counts, pa.int64())})


def found_tasks(table: pa.Table, smallest_budget: int, agreement: float | None) -> pa.Table:
    """Return one row about the rows whose `how` is "discovered"; no row if there are none.

    `prompts_a_task` is the mean size of a found task. `picks_a_task` is `smallest_budget` divided by the number of all tasks.
    `largest_share` is the largest found task's share of the table's rows. The column `agreement` has the value of the argument.
    """
    found = table.filter(pc.equal(table["how"].cast(pa.string()), "discovered"))
    columns: dict[str, list[float | None]] = {}
    sizes = pc.value_counts(found["task"]).field("counts")
    columns["prompts_a_task"] = [found.num_rows / len(sizes)] if len(sizes) else []
    columns["picks_a_task"] = [smallest_budget / len(pc.unique(table["task"]))] if len(sizes) else []
    columns["largest_share"] = [pc.max(sizes).as_py() / table.num_rows] if len(sizes) else []
    columns["agreement"] = [agreement] if len(sizes) else []
    return pa.table({name: pa.array(values, pa.float64()) for name, values in columns.items()})


def voted_tasks(table: pa.Table, vote_confidence: float | None) -> pa.Table:
    """Return one row with the argument as `mean_confidence`; no row if it is None. The content of the table is not used."""
    return pa.table({"mean_confidence": pa.array([] if vote_confidence is None else [vote_confidence], pa.float64())})


def per_spelling(table: pa.Table) -> pa.Table:
    """Return one row for each task, with the columns `spelling` and `spellings_n`.

    `spelling` is the `repr` of the task's name. `spellings_n` is the number of tasks with the same folded name, itself included.
    Folding ignores case and extra white space, and composes accents (NFC).
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
    """Return one row for each pair of training seed and benchmark that is in the table or is expected.

    `scores_n` is the pair's number of rows in the table. `expected_n` is the number it should have; 0 if it is not expected.
    """
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
    """Return `prompts_n`, the number of different prompts in the rows of an item, for each benchmark item."""
    groups = table.group_by(["benchmark", "task", "item_id"]).aggregate([("prompt_hash", "count_distinct")])
    return groups.rename_columns({"prompt_hash_count_distinct": "prompts_n"})


def per_benchmark_and_metric(table: pa.Table) -> pa.Table:
    """Return `mean_score`, the mean over all items and seeds, for each benchmark and metric."""
    groups = table.group_by(["benchmark", "metric"]).aggregate([("score", "mean")])
    return groups.rename_columns({"score_mean": "mean_score"})


def per_line(table: pa.Table) -> pa.Table:
    """Return `macro_n` and `macro_error` for each benchmark, metric, strategy, budget and training seed with scores.

    `macro_n` is the number of rows with the score over all tasks (their `task` is empty). `macro_error` is the distance between
    this score and the mean of the tasks' own scores; null if one of the two is missing.
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
    """Return `rows_n` and `expected_n` (0 for a task missing in `task_sizes`) for each task of the table or of `task_sizes`."""
    tasks = both_sides(table, "task", list(task_sizes))
    found = table.group_by("task").aggregate([([], "count_all")])
    rows_n = pc.fill_null(found["count_all"].take(pc.index_in(tasks["task"], found["task"].combine_chunks())), 0)
    wanted_n = pc.multiply(pc.cast(tasks["is_expected"], pa.int64()), expected_n)
    return pa.table({"task": tasks["task"], "rows_n": rows_n, "expected_n": wanted_n})


def per_variant(table: pa.Table, task_sizes: Mapping[str, int]) -> pa.Table:
    """Return `allocated_n` (sum over tasks) and `available_n` (min(budget, pool size)) by source, definition and budget."""
    groups = table.group_by(["source", "definition", "budget_n"]).aggregate([("allocated_n", "sum")])
    available_n = pc.min_element_wise(groups["budget_n"], sum(task_sizes.values()))
    return groups.rename_columns({"allocated_n_sum": "allocated_n"}).append_column("available_n", available_n)


def per_budget_and_task(table: pa.Table) -> pa.Table:
    """Return `chosen_n`, the number of rows where `is_chosen` is true, for each budget and task."""
    as_number = table.append_column("chosen", pc.cast(table["is_chosen"], pa.int64()))
    groups = as_number.group_by(["budget_n", "task"]).aggregate([("chosen", "sum")])
    return groups.rename_columns({"chosen_sum": "chosen_n"})


_ALL = (
    rows, where, where_all, where_columns, row_order, membership, expected_value, listed, trimmed, both_sides, found_or_not,
    stored_and_expected, difference, defined_confidence, per_selection_seed, per_seed_and_task, per_task, tasks_of_source,
    found_tasks, voted_tasks, per_spelling, per_seed_and_benchmark, per_item, per_benchmark_and_metric, per_line,
    per_pool_task, per_variant, per_budget_and_task,
)  # fmt: skip
VIEWS: Mapping[str, Callable[..., pa.Table]] = {view.__name__: view for view in _ALL}


def _floored_exp(log_probability: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return exp(`log_probability`), but at least the smallest normal float32, because a confidence must not be 0."""
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
    given, values = mapping.columns if isinstance(mapping, pa.Table) else (list(mapping), list(mapping.values()))
    return _array(values, value_type).take(pc.index_in(keys, value_set=_array(given, keys.type)))


def _array(values: Values, value_type: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(value_type) if isinstance(values, pa.Array) else pa.array(list(values), value_type)
