"""Labels from the pool's own column and from a mapping file; labels that do not fit are refused with counts."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts import arrow_schema, load
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.frame import Part, raw_pool


def make_pool(tasks=("qa", "qa", "sum")):
    prompts = [f"prompt {i}" for i in range(len(tasks))]
    return raw_pool([Part("p", prompts, [None] * len(tasks), tasks, None, range(1, 9), len(tasks), {})]).table


def write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_labels_of_the_column_have_the_contracts_schema():
    pool = make_pool()
    table = labels.from_column(pool)
    assert table.schema.equals(arrow_schema(load("task_labels")))
    assert table["prompt_id"].to_pylist() == pool["prompt_id"].to_pylist()
    assert table["task"].to_pylist() == pool["source_task"].to_pylist()
    assert set(table["how"].to_pylist()) == {"column"}


def test_missing_tasks_of_the_column_are_counted():
    with pytest.raises(ValueError, match="2 of 3 prompts have no source_task"):
        labels.from_column(make_pool([None, "qa", " "]))


def test_a_mapping_by_source_task_may_serve_several_pools(tmp_path):
    (tmp_path / "map.csv").write_text("source_task,task\nqa,answer\nsum,write\nelsewhere,other\n")
    pool = make_pool()
    table = labels.from_mapping(pool, str(tmp_path / "map.csv"))
    assert table["task"].to_pylist() == [{"qa": "answer", "sum": "write"}[t] for t in pool["source_task"].to_pylist()]
    assert set(table["how"].to_pylist()) == {"mapping"}


def test_a_mapping_by_prompt_id(tmp_path):
    pool = make_pool()
    rows = [{"prompt_id": i, "task": f"t{k}"} for k, i in enumerate(pool["prompt_id"].to_pylist())]
    table = labels.from_mapping(pool, write(tmp_path / "map.parquet", rows[::-1]))
    assert table.select(["prompt_id", "task"]).to_pylist() == rows


def test_a_mapping_that_does_not_fit_is_refused(tmp_path):
    pool = make_pool()
    ids = pool["prompt_id"].to_pylist()
    rows = [{"prompt_id": i, "task": "t"} for i in ids]
    path = tmp_path / "map.parquet"
    for wrong, said in [
        ([*rows, {"prompt_id": "f" * 16, "task": "t"}], "1 of 4 prompt ids are not in the pool, the first is 'f"),
        (rows[:1], "gives no task for 2 of 3 prompts"),
        ([*rows, {"prompt_id": ids[0], "task": "u"}], "row 4: prompt_id .* has the tasks 't' and 'u'; keep one"),
        ([*rows[:2], {"prompt_id": ids[2], "task": ""}], "row 3: prompt_id is .* and task ''; expected both"),
        ([{"task": "t"}], "expected 'task' and exactly one of 'prompt_id' and 'source_task'"),
        ([{"prompt_id": ids[0]}], "has no column 'task'"),
    ]:
        write(path, wrong)
        with pytest.raises(ValueError, match=said):
            labels.from_mapping(pool, str(path))
