"""Labels from a pool's column and from a mapping file. Labels that do not match the pool are rejected with counts."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import data_contracts
from data_contracts import load
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.frame import Part, raw_pool
from taskdiv_assets.selection import STRATEGIES
from tests.home import MINIATURE


def make_pool(tasks=("qa", "qa", "sum")):
    prompts = [f"prompt {i}" for i in range(len(tasks))]
    return raw_pool([Part("p", prompts, [None] * len(tasks), tasks, None, range(1, 9), len(tasks), {})]).table


def from_file(pool, path, left_out=(), **columns):
    return labels.from_mapping(
        pool, TaskLabels.model_validate({"from": "mapping", "path": str(path), **columns}), left_out
    )


def write(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_labels_of_the_column_have_the_contracts_schema():
    pool = make_pool()
    table = labels.from_column(pool)
    assert table.schema.equals(load("task_labels").arrow_schema)
    assert table["prompt_id"].to_pylist() == pool["prompt_id"].to_pylist()
    assert table["task"].to_pylist() == pool["source_task"].to_pylist()
    assert set(table["how"].to_pylist()) == {"column"}


def test_missing_tasks_of_the_column_are_counted_where_a_strategy_reads_them():
    table = labels.from_column(make_pool([None, "qa", " "]))
    assert table.schema.equals(load("task_labels").arrow_schema)
    assert sorted(zip(table["task"].to_pylist(), table["how"].to_pylist(), strict=True)) == [
        *[(labels.NO_TASK, "none")] * 2,
        ("qa", "column"),
    ]
    labels.refuse_unlabelled(table, [])  # random reads no task
    with pytest.raises(ValueError, match="2 of 3 prompts have no source_task.*task_diversity reads the task"):
        labels.refuse_unlabelled(table, ["task_diversity"])


def test_a_task_of_the_source_may_have_the_name_of_none():
    table = labels.from_column(make_pool(["qa", labels.NO_TASK, "qa"]))
    labels.refuse_unlabelled(table, ["task_diversity"])
    assert sorted(table["task"].to_pylist()) == sorted(["qa", labels.NO_TASK, "qa"])


def test_strategies_that_read_tasks_are_known():
    experiment = experiment_file.load(str(MINIATURE))
    assert experiment.by_task == ["weighted_task_diversity"]
    for name in STRATEGIES:
        only = experiment.model_copy(update={"strategies": [name]})
        assert bool(only.by_task) == ("tasks" in STRATEGIES[name].needs)


def test_a_mapping_by_source_task_may_serve_several_pools(tmp_path):
    (tmp_path / "map.csv").write_text("source_task,task\nqa,answer\nsum,write\nelsewhere,other\n")
    pool = make_pool()
    table = from_file(pool, tmp_path / "map.csv")
    assert table["task"].to_pylist() == [{"qa": "answer", "sum": "write"}[t] for t in pool["source_task"].to_pylist()]
    assert set(table["how"].to_pylist()) == {"mapping"}


def test_a_mapping_by_prompt_id(tmp_path):
    pool = make_pool()
    rows = [{"prompt_id": i, "task": f"t{k}"} for k, i in enumerate(pool["prompt_id"].to_pylist())]
    table = from_file(pool, write(tmp_path / "map.parquet", rows[::-1]))
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
            from_file(pool, path)


def own_pool(prompts, ids, duplicates="keep"):
    n = len(prompts)
    return raw_pool([Part("p", prompts, [None] * n, ["a"] * n, ids, range(1, n + 1), n, {})], duplicates)


def tasks_by_own_id(table, pool):
    tasks = dict(zip(table["prompt_id"].to_pylist(), table["task"].to_pylist(), strict=True))
    return {row["source_id"]: tasks[row["prompt_id"]] for row in pool.to_pylist()}


def test_a_mapping_by_ids_of_ones_own_survives_a_corrected_typo(tmp_path):
    (tmp_path / "map.csv").write_text("ticket;Thema\n1;billing\n2;login\n99;other pool\n")
    expected = {"1": "billing", "2": "login"}
    for prompts in (["Wy?", "How?"], ["Why?", "How?"]):
        pool = own_pool(prompts, ["1", "2"]).table
        table = from_file(pool, tmp_path / "map.csv", key="ticket", task="Thema")
        assert tasks_by_own_id(table, pool) == expected
        assert set(table["how"].to_pylist()) == {"mapping"}


def test_a_key_of_another_name_may_hold_prompt_ids_or_tasks_of_the_source(tmp_path):
    pool = make_pool()
    by_task = [{"category": name, "task": name.upper()} for name in ("qa", "sum")]
    table = from_file(pool, write(tmp_path / "a.parquet", by_task), key="category")
    assert table["task"].to_pylist() == [name.upper() for name in pool["source_task"].to_pylist()]
    by_id = [{"id": prompt_id, "task": "t"} for prompt_id in pool["prompt_id"].to_pylist()]
    assert set(from_file(pool, write(tmp_path / "b.parquet", by_id), key="id")["task"].to_pylist()) == {"t"}
    with pytest.raises(ValueError, match="column 'id' names no prompt of the pool, its first value is 'x'"):
        from_file(pool, write(tmp_path / "c.parquet", [{"id": "x", "task": "t"}]), key="id")
    with pytest.raises(ValueError, match="has no column 'idd'.*Did you mean 'id'"):
        from_file(pool, tmp_path / "b.parquet", key="idd")
    with pytest.raises(ValueError, match="`key` and `task` both name 'id'"):
        from_file(pool, tmp_path / "b.parquet", key="id", task="id")


def test_a_mapping_may_name_copies_that_the_pool_left_out(tmp_path):
    whole, pool = own_pool(["a", "b", "a"], ["1", "2", "3"]).table, own_pool(["a", "b", "a"], ["1", "2", "3"], "drop")
    by_prompt = [{"prompt_id": prompt_id, "task": "t"} for prompt_id in whole["prompt_id"].to_pylist()]
    path = write(tmp_path / "a.parquet", by_prompt)
    assert from_file(pool.table, path, pool.copies["copy_id"].to_pylist()).num_rows == 2
    with pytest.raises(ValueError, match="1 of 3 prompt ids are not in the pool"):
        from_file(pool.table, path)
    by_own = [{"ticket": own, "task": f"t{own}"} for own in "123"]
    table = from_file(
        pool.table, write(tmp_path / "b.parquet", by_own), pool.copies["copy_id"].to_pylist(), key="ticket"
    )
    assert tasks_by_own_id(table, pool.table) == {"1": "t1", "2": "t2"}


def test_names_of_columns_are_for_mappings():
    with pytest.raises(ValueError, match="`key` and `task` name columns of a mapping file"):
        TaskLabels(key="ticket")


def judged(tasks, how="column"):
    prompt_ids = [f"{i:016x}" for i in range(len(tasks))]
    hows = pa.DictionaryArray.from_arrays(pa.array([0] * len(tasks), pa.int32()), pa.array([how]))
    table = pa.Table.from_arrays([pa.array(prompt_ids), pa.array(tasks), hows], schema=labels.SCHEMA)
    result = data_contracts.validate(
        load("task_labels"),
        table,
        {"pool_prompt_ids": prompt_ids, "smallest_budget": 1, "agreement": None, "vote_confidence": None},
    )
    return {rule.rule: rule for rule in result.failed}


@pytest.mark.parametrize("other", [" Café", "Café ", "CAFÉ", "Cafe\u0301", "café"])
def test_spellings_of_a_task_are_named_as_a_warning(other):
    failed = judged(["Café", "Café", other, other, "tea", "tea"])
    assert failed.keys() == {"tasks_spelled_one_way"}
    rule = failed["tasks_spelled_one_way"]
    assert (rule.severity, rule.observed) == ("warning", "2 of 3 rows fail")
    assert {example["spelling"] for example in rule.examples} == {repr("Café"), repr(other)}


def test_one_task_is_a_warning_only_where_tasks_were_named():
    assert judged(["all prompts"] * 3, "none") == {}
    assert judged(["only"] * 3).keys() == {"tasks_differ"}
