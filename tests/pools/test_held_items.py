"""Items that are held out of a pool, and their near-duplicates among the other rows, compared with plain definitions."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from taskdiv_assets.experiment.benchmark_settings import HeldOutBenchmark
from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.pools import held_items, labels, overlap
from taskdiv_assets.pools.frame import Part, RawPool, raw_pool

TASKS = ["qa"] * 30 + ["sum"] * 7 + ["lonely"]


def make_pool(answered: str = "always") -> RawPool:
    prompts = [f"question number {n}" for n in range(len(TASKS))]
    answers = [None if answered == "never" or (answered == "odd" and n % 2 == 0) else "yes" for n in range(len(TASKS))]
    return raw_pool([Part.whole("p", prompts, answers, TASKS)])


def held(**settings: object) -> HeldOutBenchmark:
    return HeldOutBenchmark.model_validate({"name": "held_out", **settings})


def split(pool: RawPool, **settings: object) -> held_items.Split:
    return held_items.without_items(pool, held(**settings), "column", TaskLabels())


def by_task(items: pa.Table) -> dict[str, int]:
    found = items["task"].value_counts().to_pylist()
    return {one["values"]: one["counts"] for one in found}


@pytest.mark.parametrize(
    ("settings", "answered", "counts"),
    [
        ({"per_task": 5}, "always", {"qa": 5, "sum": 3}),  # at most half; one answer is never taken
        ({"per_task": 100}, "always", {"qa": 15, "sum": 3}),
        ({"share": 0.1}, "always", {"qa": 3, "sum": 1}),
        ({"per_task": 5}, "odd", {"qa": 5, "sum": 1}),
    ],
)
def test_each_task_gives_its_number_of_answered_prompts(
    settings: dict[str, object], answered: str, counts: dict[str, int]
) -> None:
    pool = make_pool(answered)
    left, items = split(pool, **settings)
    rest = left.table
    assert by_task(items) == counts and left.drops == {"held_out": items.num_rows} and left.dropped_n == items.num_rows
    assert items["response"].null_count == 0
    ids = [*rest["prompt_id"].to_pylist(), *items["prompt_id"].to_pylist()]
    assert sorted(ids) == sorted(pool.table["prompt_id"].to_pylist())
    assert items["prompt_id"].to_pylist() == sorted(items["prompt_id"].to_pylist())


def test_the_draw_depends_on_ids_only_and_a_larger_one_contains_a_smaller_one() -> None:
    pool = make_pool()
    few = set(split(pool, per_task=2).items["prompt_id"].to_pylist())
    assert few < set(split(pool, per_task=4).items["prompt_id"].to_pylist())
    rows = list(range(len(TASKS)))
    random.Random(1).shuffle(rows)
    shuffled = replace(pool, table=pool.table.take(rows))
    assert set(split(shuffled, per_task=2).items["prompt_id"].to_pylist()) == few


def test_later_answers_change_no_item() -> None:
    """With `answers: later`, the draw is over all prompts, so it is the same with no answer, some answers and all answers."""
    drawn = [split(make_pool(answered), per_task=5, answers="later") for answered in ("never", "odd", "always")]
    ids = [one.items["prompt_id"].to_pylist() for one in drawn]
    assert ids[0] == ids[1] == ids[2] == split(make_pool(), per_task=5).items["prompt_id"].to_pylist()
    assert [one.items["response"].null_count for one in drawn][::2] == [8, 0]
    assert held_items.answered(drawn[1].items)["response"].to_pylist() == ["yes"] * (
        8 - drawn[1].items["response"].null_count
    )
    with pytest.raises(ValueError, match="a task with at least two prompts, and the pool has 1 prompts in 1 tasks"):
        split(raw_pool([Part.whole("p", ["alone"], [None], ["qa"])]), per_task=5, answers="later")


def test_any_first_items_of_a_sheet_have_several_tasks() -> None:
    items = held_items.in_drawn_order(split(make_pool(), per_task=3).items)
    assert sorted(items["prompt_id"].to_pylist()) != items["prompt_id"].to_pylist()
    assert len(set(items["task"].to_pylist()[:4])) == 2


@pytest.mark.parametrize("rows", [[""] * 2, []])
def test_a_mapping_file_that_lacks_tasks_draws_as_from_one_task(tmp_path: Path, rows: list[str]) -> None:
    pool = make_pool()
    ids = pool.table["prompt_id"].to_pylist()
    path = tmp_path / "tasks.csv"
    cells = [*((one, "mine") for one in ids[2:]), *zip(ids, rows, strict=False)]
    path.write_text("\n".join(["prompt_id,task", *map(",".join, cells)]))
    mapping = TaskLabels.model_validate({"from": "mapping", "path": str(path), "missing": "nearest"})
    _, items = held_items.without_items(pool, held(per_task=3), "mapping", mapping)
    assert by_task(items) == {labels.ONE_TASK: 3}


def test_a_mapping_file_gives_the_tasks_and_may_keep_the_held_out_ids(tmp_path: Path) -> None:
    pool = make_pool()
    ids = pool.table["prompt_id"].to_pylist()
    path = tmp_path / "tasks.csv"
    path.write_text("prompt_id,task\n" + "".join(f"{i},{'even' if int(i, 16) % 2 == 0 else 'odd'}\n" for i in ids))
    mapping = TaskLabels.model_validate({"from": "mapping", "path": str(path)})
    left, items = held_items.without_items(pool, held(per_task=3), "mapping", mapping)
    rest = left.table
    assert by_task(items) == {"even": 3, "odd": 3}
    table = labels.of_source("mapping", mapping, rest, items["prompt_id"].to_pylist())
    assert table["prompt_id"].to_pylist() == rest["prompt_id"].to_pylist()
    with pytest.raises(ValueError, match="6 of 38 prompt ids are not in the pool"):
        labels.of_source("mapping", mapping, rest, [])


def test_without_answers_or_with_two_sizes_the_error_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="the pool has 0 answered prompts in 0 tasks; name the column of answers"):
        split(make_pool("never"), per_task=5)
    with pytest.raises(ValidationError, match="`answers: later` draws items from the pool"):
        held(path="items.csv", columns={"prompt": "q"}, answers="later")
    for settings in ({}, {"per_task": 2, "share": 0.1}):
        with pytest.raises(ValidationError, match="expected either `per_task: 20`"):
            held(**settings)


def test_items_of_a_file_are_all_its_rows_and_leave_the_pool(tmp_path: Path) -> None:
    pool, path = make_pool(), tmp_path / "items.csv"
    path.write_text("q,a,t\nquestion number 3,sure,qa\nof its own,yes,other\nof its own,yes,other\nno task,no,\n")
    columns = {"prompt": "q", "response": "a", "task": "t"}
    rest, items = split(pool, path=str(path), columns=columns)
    rows = {(one["prompt"], one["response"], one["task"]) for one in items.to_pylist()}
    assert rows == {
        ("question number 3", "sure", "qa"),
        ("of its own", "yes", "other"),
        ("no task", "no", labels.NO_TASK),
    }
    assert "question number 3" not in rest.table["prompt"].to_pylist() and rest.drops == {"held_out": 1}
    assert items.schema.equals(held_items.SCHEMA)
    untasked = split(pool, path=str(path), columns={"prompt": "q", "response": "a"}).items
    assert set(untasked["task"].to_pylist()) == {labels.ONE_TASK}
    path.write_text("q,a\none,yes\ntwo,\n")
    with pytest.raises(ValueError, match="1 of the 2 rows of .*items.csv have no answer"):
        split(pool, path=str(path), columns={"prompt": "q", "response": "a"})
    with pytest.raises(ValueError, match="benchmark `held_out`: .*items.csv"):
        split(pool, path=str(path), columns={"prompt": "question", "response": "a"})


def test_a_file_of_items_and_its_columns_belong_together() -> None:
    for settings in (
        {"path": "x.csv"},
        {"path": "x.csv", "columns": {"prompt": "q"}},
        {"per_task": 2, "columns": {"prompt": "q", "response": "a"}},
    ):
        with pytest.raises(ValidationError, match="belong together"):
            held(**settings)
    assert held(per_task=2, generated={}).metrics[3:] == ("chrf", "rouge_l")
    with pytest.raises(ValidationError, match="`metrics` names a metric twice"):
        held(per_task=2, generated={"metrics": ["chrf", "chrf"]})
    assert held(per_task=2).model_dump() == {"name": "held_out", "per_task": 2, "share": None, "drop_duplicates": False}


def test_near_duplicates_are_dropped_by_an_option() -> None:
    long = "please tell me the name of the river that flows through the town of number"
    prompts = [f"{long} {n}" for n in range(10)] + ["something else", "another thing"]
    pool = raw_pool([Part.whole("p", prompts, ["yes"] * 12, ["qa"] * 12)])
    kept = split(pool, per_task=1)
    assert kept.pool.table.num_rows == 11 and kept.pool.drops == {"held_out": 1}
    dropped = split(pool, per_task=1, drop_duplicates=True)
    assert dropped.items.equals(kept.items)
    near_n = int(overlap.near(kept.pool.table["prompt"].to_pylist(), kept.items["prompt"].to_pylist()).sum())
    assert dropped.pool.drops == {"held_out": 1, **({"near_duplicate_of_held_out": near_n} if near_n else {})}
    assert dropped.pool.table.num_rows == 11 - near_n
