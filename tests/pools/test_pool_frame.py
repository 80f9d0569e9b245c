"""Prompt ids, duplicates and rejected rows, on rows written by hand."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts import load
from taskdiv_assets.pools import frame
from taskdiv_assets.pools.frame import Part, content_hashes, prompt_ids, raw_pool


def part(prompts, responses=None, tasks=None, ids=None, name="pool.csv"):
    n = len(prompts)
    return Part(name, prompts, responses or [None] * n, tasks or [None] * n, ids, range(1, n + 1), n, {})


def test_an_id_is_the_first_16_digits_of_sha256_over_prompt_task_and_occurrence():
    expected = [
        hashlib.sha256(json.dumps(key, separators=(",", ":")).encode()).hexdigest()[:16]
        for key in (["hé", "qa", 0], ["b", "", 0], ["hé", "qa", 1], ["hé", "", 0])
    ]
    assert prompt_ids(["hé", "b", "hé", "hé"], ["qa", None, "qa", None], None) == expected


TEXT_ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", None])), min_size=1, max_size=20)


@given(TEXT_ROWS, st.randoms(use_true_random=False))
def test_with_ids_of_their_own_shuffled_rows_keep_their_prompt_ids(rows, random):
    keyed = [(prompt, task, f"q{i}") for i, (prompt, task) in enumerate(rows)]
    shuffled = random.sample(keyed, len(keyed))
    one, other = (
        dict(zip([row[2] for row in some], prompt_ids(*zip(*some, strict=True)), strict=True))
        for some in (keyed, shuffled)
    )
    assert one == other
    assert len(set(one.values())) == len(rows)


def test_the_table_has_the_contracts_schema_and_is_sorted_by_id():
    pool = raw_pool([part(["b", "a", "c"], ["1", None, " "], ["t", "t", ""], ["x", "y", "z"])])
    assert pool.table.schema.equals(load("raw_pool").arrow_schema)
    ids = pool.table["prompt_id"].to_pylist()
    assert ids == sorted(ids)
    by_prompt = {row["prompt"]: row for row in pool.table.to_pylist()}
    assert by_prompt["b"] | {"prompt_id": ""} == {
        "prompt_id": "",
        "source_id": "x",
        "prompt": "b",
        "response": "1",
        "source_task": "t",
        "position": 0,
    }
    assert by_prompt["c"]["response"] is None and by_prompt["c"]["source_task"] is None
    assert pool.repairs == {"blank_response": 1, "blank_source_task": 1}
    assert pool.responses_n == 1


def test_duplicates_are_kept_and_counted_or_dropped_after_the_first():
    rows = part(["a", "b", "a", "a"], ["1", "2", "3", "4"], ["t", "t", "t", "u"])
    kept, dropped = raw_pool([rows]), raw_pool([rows], "drop")
    assert (kept.table.num_rows, kept.duplicates_n, kept.dropped_n, kept.drops) == (4, 2, 0, {})
    assert (dropped.table.num_rows, dropped.duplicates_n, dropped.dropped_n) == (2, 2, 2)
    assert dropped.drops == {"duplicate_prompt": 2}
    assert sorted(dropped.table["response"].to_pylist()) == ["1", "2"]
    assert kept.prompts_under_two_tasks_n == dropped.prompts_under_two_tasks_n == 1
    assert set(dropped.table["prompt_id"].to_pylist()) < set(kept.table["prompt_id"].to_pylist())


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([part(["a", " \n"])], r"pool.csv, row 2: the prompt is empty \(1 such row\)"),
        ([part(["a"]), part([None, "", "c"], name="b.csv")], r"b.csv, row 1: the prompt is empty \(2 such rows\)"),
        ([part(["a", "b"], ids=["q7", "q7"])], "id 'q7' occurs twice: pool.csv, row 1 and pool.csv, row 2"),
        ([part(["a"], ids=["q"]), part(["b"], ids=["q"], name="b.csv")], "pool.csv, row 1 and b.csv, row 1"),
        ([part(["a", "b"], ids=["q7", None])], "pool.csv, row 2 has no id"),
        ([part([])], "no rows are left"),
        ([], "no rows are left"),
    ],
)
def test_bad_rows_are_refused_with_their_place(parts, said):
    with pytest.raises(ValueError, match=said):
        raw_pool(parts)


def test_two_prompts_with_one_id_are_refused(monkeypatch):
    """16 hex digits collide by chance about once in 4 billion pools of 100,000 prompts, so it is arranged here."""
    monkeypatch.setattr(frame, "prompt_ids", lambda prompts, tasks, ids: ["0" * 16] * len(prompts))
    with pytest.raises(ValueError, match=r"pool.csv, row 1 and pool.csv, row 2 got the same prompt_id 0{16}"):
        raw_pool([part(["a", "b"])])


def test_a_new_answer_changes_the_answers_hash_only_and_row_order_changes_nothing():
    base = content_hashes(raw_pool([part(["a", "b"], ["1", None], ["t", "t"])]).table)
    assert all(len(value) == 32 for value in base.values())
    answered = content_hashes(raw_pool([part(["a", "b"], ["1", "2"], ["t", "t"])]).table)
    assert (answered["prompts"] == base["prompts"], answered["answers"] == base["answers"]) == (True, False)
    assert content_hashes(raw_pool([part(["b", "a"], [None, "1"], ["t", "t"])]).table) == base
    assert content_hashes(raw_pool([part(["a", "b"], ["1", None], ["t", "u"])]).table)["prompts"] != base["prompts"]
    table = raw_pool([part(["a", "b"], ["1", None], ["t", "t"])]).table
    assert content_hashes(table.take([1, 0])) == base
