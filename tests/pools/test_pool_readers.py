"""The named readers on real data, and hub data sets read by `datasets` from local files."""

from collections import Counter

import pytest

from taskdiv_assets.experiment.pool_settings import Columns, Pool
from taskdiv_assets.pools import dolly, flan, frame
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.pools.sources import from_dataset, read_hub

DOLLY = "dolly/databricks-dolly-15k.jsonl.gz"


def test_dolly_is_read_whole(shared_data):
    """Counts as data/README.md and the data set's card state them."""
    pool = read_pool(Pool(reader="dolly", path=str(shared_data / DOLLY)))
    assert pool.table.num_rows == pool.rows_read_n == pool.responses_n == 15_011
    assert Counter(pool.table["source_task"].to_pylist()) == {
        "open_qa": 3742,
        "general_qa": 2191,
        "classification": 2136,
        "closed_qa": 1773,
        "brainstorming": 1766,
        "information_extraction": 1506,
        "summarization": 1188,
        "creative_writing": 709,
    }
    assert (pool.duplicates_n, pool.prompts_under_two_tasks_n, pool.dropped_n) == (187, 44, 0)
    first = next(row for row in pool.table.to_pylist() if row["position"] == 0)
    assert first["prompt"].startswith(
        "When did Virgin Australia start operating?\n\nVirgin Australia, the trading name"
    )
    second = next(row for row in pool.table.to_pylist() if row["position"] == 1)
    assert (second["prompt"], second["response"]) == ("Which is a species of fish? Tope or Rope", "Tope")


def test_dolly_without_duplicates(shared_data):
    pool = read_pool(Pool(reader="dolly", path=str(shared_data / DOLLY), duplicates="drop"))
    assert (pool.table.num_rows, pool.duplicates_n, pool.drops) == (15_011 - 187, 187, {"duplicate_prompt": 187})
    assert len(set(pool.table["prompt"].to_pylist())) == pool.table.num_rows


@pytest.mark.full
def test_t0_has_283_tasks_and_its_blank_answers_are_unknown(shared_data):
    pool = read_pool(Pool(reader="t0", path=str(shared_data / "t0/t0_pool.parquet")))
    assert pool.table.num_rows == 55_185
    assert len(set(pool.table["source_task"].to_pylist())) == 283
    assert pool.repairs == {"blank_response": 1400}
    assert pool.responses_n == 55_185 - 1400


def test_flan_files_together_without_their_test_rows(shared_data):
    pool = read_pool(Pool(reader="flan", path=str(shared_data / "flan/flan*.parquet")))
    assert (pool.table.num_rows, pool.rows_read_n, pool.drops) == (38_243, 41_443, {"other_split": 3200})
    assert len(set(pool.table["source_task"].to_pylist())) == 16 + 7
    chained = next(row for row in pool.table.to_pylist() if row["source_id"] == "cot-aqua-5")
    assert chained["response"].endswith("6 + 1. Hence 37 The answer is (D).")


@pytest.mark.full
def test_flan_and_t0_as_one_pool_of_306_tasks(shared_data):
    paths = [str(shared_data / name) for name in ("t0/t0_pool.parquet", "flan/flan2021_subset.parquet")]
    paths.append(str(shared_data / "flan/flan_v2_cot.parquet"))
    pool = read_pool(Pool(reader="flan", path=paths, split="train+test"))
    assert pool.table.num_rows == 55_185 + 8_000 + 33_443
    assert len(set(pool.table["source_task"].to_pylist())) == 306


def test_a_split_that_is_not_there_and_a_file_that_is_no_flan_are_refused(shared_data):
    with pytest.raises(ValueError, match="no row of split 'validation'; its splits are test, train"):
        read_pool(Pool(reader="flan", path=str(shared_data / "flan/flan2021_subset.parquet"), split="validation"))
    with pytest.raises(ValueError, match=r"niv2_tasks\.parquet has no column for the prompt: looked for 'instruction'"):
        read_pool(Pool(reader="flan", path=str(shared_data / "flan/niv2_tasks.parquet")))
    with pytest.raises(ValueError, match="has no column 'instruction'"):
        read_pool(Pool(reader="dolly", path=str(shared_data / "bbh/bbh.parquet")))


def test_a_hub_data_set_of_dolly_gives_the_pool_of_the_file(shared_data, tmp_path):
    """Loaded by `datasets` from the local file: what the hub would hand over, without the hub."""
    import datasets

    data = datasets.load_dataset("json", data_files=str(shared_data / DOLLY), split="train", cache_dir=str(tmp_path))
    rows = dolly.to_part(from_dataset(data, "databricks/databricks-dolly-15k@abc", dolly.choose))
    expected = read_pool(Pool(reader="dolly", path=str(shared_data / DOLLY)))
    assert frame.raw_pool([rows]).table.equals(expected.table)


def test_a_hub_data_set_in_the_columns_of_flan_v2_exports():
    """The columns of chiayewken/flan-v2; `datasets` builds the rows."""
    import datasets

    data = datasets.Dataset.from_dict(
        {
            "source": ["Is it?", "Why?"],
            "target": ["yes", "so"],
            "task_name": ["boolq", "qa"],
            "template_type": ["zs"] * 2,
        }
    )
    rows = flan.to_part(from_dataset(data, "flan", flan.choose), split=None)
    assert (rows.prompts, rows.responses) == (["Is it?", "Why?"], ["yes", "so"])
    assert (rows.source_tasks, rows.source_ids) == (["boolq", "qa"], None)


def test_columns_named_by_the_experiment_come_before_the_usual_ones():
    import datasets

    data = datasets.Dataset.from_dict(
        {"instruction": ["x"], "question": ["Why?"], "output": ["so"], "task": ["t"], "family": ["qa"], "key": ["7"]}
    )
    columns = Columns(prompt="question", task="family", id="key")
    source = from_dataset(data, "flan", lambda names, place: flan.choose(names, place, columns))
    rows = flan.to_part(source, columns=columns)
    assert (rows.prompts, rows.responses, rows.source_tasks, rows.source_ids) == (["Why?"], ["so"], ["qa"], ["7"])


def test_a_hub_data_set_needs_a_revision_and_one_split():
    import datasets

    with pytest.raises(ValueError, match="has no revision"):
        read_hub("databricks/databricks-dolly-15k", None, "train", dolly.choose)
    splits = datasets.DatasetDict(train=datasets.Dataset.from_dict({"a": [1]}))
    with pytest.raises(ValueError, match="expected one split of a data set, found DatasetDict"):
        from_dataset(splits, "x", dolly.choose)


def test_the_labs_pool_ends_in_the_same_table():
    pool = read_pool(Pool(reader="lab", tasks=["copy", "reverse"], largest_n=20, smallest_n=10))
    assert pool.table.num_rows == pool.responses_n == 30
    assert set(pool.table["source_task"].to_pylist()) == {"copy", "reverse"}
