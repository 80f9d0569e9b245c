"""Read rows of BIG-Bench Hard from local files: one Parquet file of all tasks, or a folder of the original JSON files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from taskdiv_assets.benchmarks.question_sources import TaskRows, check_ids, file_bytes, is_folder, parquet_table

# Number of items of each published task (suzgunmirac/BIG-Bench-Hard at 9ee07bd), 6,511 in total.
SIZES = {
    "boolean_expressions": 250, "causal_judgement": 187, "date_understanding": 250, "disambiguation_qa": 250,
    "dyck_languages": 250, "formal_fallacies": 250, "geometric_shapes": 250, "hyperbaton": 250,
    "logical_deduction_five_objects": 250, "logical_deduction_seven_objects": 250,
    "logical_deduction_three_objects": 250, "movie_recommendation": 250, "multistep_arithmetic_two": 250,
    "navigate": 250, "object_counting": 250, "penguins_in_a_table": 146, "reasoning_about_colored_objects": 250,
    "ruin_names": 250, "salient_translation_error_detection": 250, "snarks": 178, "sports_understanding": 250,
    "temporal_sequences": 250, "tracking_shuffled_objects_five_objects": 250,
    "tracking_shuffled_objects_seven_objects": 250, "tracking_shuffled_objects_three_objects": 250,
    "web_of_lies": 250, "word_sorting": 250,
}  # fmt: skip
COLUMNS = ("task", "input", "target")
LABEL = "BBH source"


def read_rows(source: str, names: Sequence[str]) -> dict[str, TaskRows]:
    """Read the rows {"input", "target"} of the named tasks, in the form of the hub's SaylorTwift/bbh.

    Raises:
        ValueError: the source does not exist, has another format, lacks a task, or has a blank or missing text or a repeated id.
    """
    expected = f"a Parquet file with the columns {', '.join(COLUMNS)}, or a folder of the original JSON files"
    if is_folder("bbh", source, expected):
        tasks = {name: TaskRows(_examples(source, name)) for name in names}
    else:
        tasks = _from_parquet(source, names)
    for name, rows in tasks.items():
        for row, document in enumerate(rows.documents):
            if not all(isinstance(text, str) and text.strip() for text in document.values()):
                raise ValueError(f"{LABEL} {source!r}, task {name!r}, row {row}: expected text in input and target")
    check_ids(LABEL, source, tasks)
    return tasks


def _examples(folder: str, name: str) -> list[dict[str, Any]]:
    """Read an original file such as boolean_expressions.json: {"examples": [{"input": …, "target": …}, …]}."""
    try:
        data = file_bytes(f"{folder.rstrip('/')}/{name}.json")
    except FileNotFoundError:
        raise ValueError(f"BBH folder {folder!r} has no file {name}.json; name the `tasks` that it holds") from None
    try:
        content: Any = json.loads(data)
        examples = [{"input": example["input"], "target": example["target"]} for example in content["examples"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        examples = []
    if not examples:
        raise ValueError(
            f"BBH file {name}.json in {folder!r} is not as expected: JSON with a list `examples` of objects "
            "with `input` and `target`, at least one"
        )
    return examples


def _from_parquet(source: str, names: Sequence[str]) -> dict[str, TaskRows]:
    table = parquet_table(LABEL, source, COLUMNS, otherwise="a folder of JSON files")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for row in table.to_pylist():
        if row["task"] in found:
            found[row["task"]].append(row)
    empty = [name for name, rows in found.items() if not rows]
    if empty:
        raise ValueError(f"{LABEL} {source!r} has no rows of task {', '.join(empty)}; name the `tasks` that it holds")
    tasks = {}
    for name, rows in found.items():
        ids = [str(row["id"]) for row in rows] if "id" in table.column_names else None
        tasks[name] = TaskRows([{"input": row["input"], "target": row["target"]} for row in rows], ids)
    return tasks
