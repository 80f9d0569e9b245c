"""Pools that are labelled in part: votes of the nearest labelled prompts, their confidence, and found tasks for the others."""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given as given_examples
from hypothesis import settings
from hypothesis import strategies as st

from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.discovery import label_votes, labelling, partial, word_views
from taskdiv_assets.pools.discovery.frozen_tasks import Fixed
from taskdiv_assets.selection.streams import keyed_hash
from tests.pools.test_discovery import ids_of, mixed

PROMPTS, KINDS = mixed(160, kinds=("reset", "refund", "poem", "chinese"))
IDS = ids_of(PROMPTS)
# Of three kinds, every fourth prompt is labelled. Nobody labelled a Chinese prompt.
LABELLED = ("reset", "refund", "poem")
TASKS = [kind if kind in LABELLED and i % 4 == 0 else None for i, kind in enumerate(KINDS)]
NEAREST = TaskLabels.model_validate({"missing": "nearest"})
FOUND = TaskLabels.model_validate({"missing": "discovered", "tasks": 2})


def pool(rows: list[int]) -> pa.Table:
    columns = {"prompt_id": [IDS[i] for i in rows], "prompt": [PROMPTS[i] for i in rows]}
    sources = {
        "source_id": pa.nulls(len(rows), pa.string()),
        "source_task": pa.array([TASKS[i] for i in rows], pa.string()),
    }
    return pa.table({**columns, **sources})


def done(rows: list[int], wanted: TaskLabels) -> labelling.Labelled:
    return partial.completed(pool(rows), labels.from_column(pool(rows)), wanted, 8, str)


def by_id(table: pa.Table, column: str = "task") -> dict[str, Any]:
    return dict(zip(table["prompt_id"].to_pylist(), table[column].to_pylist(), strict=True))


EVERY = [*range(len(PROMPTS))]
WHOLE = done(EVERY, NEAREST)


def test_labelled_prompts_keep_their_task_and_similar_prompts_get_it() -> None:
    tasks, how = by_id(WHOLE.table), by_id(WHOLE.table, "how")
    for i, task in enumerate(TASKS):
        assert how[IDS[i]] == ("nearest" if task is None else "column")
        if KINDS[i] in LABELLED:
            assert tasks[IDS[i]] == KINDS[i]
    told = WHOLE.notes[partial.NOTE]
    assert (told["labelled_n"], told["assigned_n"], told["found_n"]) == (sum(map(bool, TASKS)), TASKS.count(None), 0)
    assert told["accuracy"] == 1 and told["judged_n"] == told["labelled_n"]
    assert told["mean_confidence"] == pytest.approx(np.mean(WHOLE.votes["confidence"]), abs=1e-4)
    assert "are right for 100%" in partial.stated(WHOLE.notes)


def test_votes_equal_a_literal_count() -> None:
    """A second definition: loops over pairs, in the order of the hashes."""
    order = sorted(
        EVERY, key=lambda i: int(keyed_hash(0, label_votes.STREAM, np.array([int(IDS[i], 16)], np.uint64))[0])
    )
    rows = dict(zip(order, word_views.words([PROMPTS[i] for i in order], len(order)).astype(float), strict=True))
    voters = [i for i in order if TASKS[i] is not None]

    def vote(i: int) -> tuple[str, float]:
        near = sorted((j for j in voters if j != i), key=lambda j: -float(rows[i] @ rows[j]))[
            : label_votes.NEIGHBOURS_N
        ]
        counts = Counter(str(TASKS[j]) for j in near)
        winner = max(near, key=lambda j: (counts[str(TASKS[j])], -near.index(j)))
        return str(TASKS[winner]), counts[str(TASKS[winner])] / len(near)

    votes = label_votes.voted(PROMPTS, IDS, TASKS)
    for i in EVERY:
        if TASKS[i] is None:
            assert (votes.tasks[i], votes.confidence[i]) == vote(i)
    assert votes.accuracy == np.mean([vote(i)[0] == TASKS[i] for i in voters])


@settings(max_examples=4, deadline=None)
@given_examples(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(shuffle: random.Random) -> None:
    order = [*EVERY]
    shuffle.shuffle(order)
    for wanted in (NEAREST, FOUND):
        one, other = done(EVERY, wanted), done(order, wanted)
        assert one.table.equals(other.table) and one.notes == other.notes and one.votes.equals(other.votes)


def test_divided_votes_form_found_tasks_with_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "SURE_MIN", 1.01)  # no vote is sure
    found = done(EVERY, FOUND)
    tasks, how = by_id(found.table), by_id(found.table, "how")
    assert {how[IDS[i]] for i in EVERY if TASKS[i] is None} == {"discovered"}
    assert {tasks[IDS[i]] for i in EVERY if TASKS[i] is None}.isdisjoint(LABELLED)
    assert (
        found.notes[partial.NOTE]["found_n"] == TASKS.count(None)
        and found.notes[partial.NOTE]["mean_confidence"] is None
    )
    assert len(found.notes[labelling.NOTE]["tasks"]) == 2 and found.votes.num_rows == 0
    assert "on which the votes were divided form found tasks" in partial.stated(found.notes)


def test_a_grown_pool_keeps_voted_tasks_and_a_given_label_wins() -> None:
    first = done(EVERY[:100], FOUND)
    fixed = Fixed(first.table, first.notes)
    given = labels.from_column(pool(EVERY)).to_pylist()
    unsure = next(i for i in EVERY[:100] if TASKS[i] is None)
    rows = [{**row, "task": "new", "how": "column"} if row["prompt_id"] == IDS[unsure] else row for row in given]
    table = pa.Table.from_pylist(rows, schema=labels.SCHEMA)
    grown = partial.grown(pool(EVERY), table, fixed, FOUND, str, {})
    old, now = by_id(first.table), by_id(grown.table)
    assert {one: now[one] for one in old if one != IDS[unsure]} == {one: old[one] for one in old if one != IDS[unsure]}
    assert now[IDS[unsure]] == "new" and {*now.values()} <= {*old.values(), "new"}
    if labelling.NOTE in first.notes:
        sizes = {one["task"]: one["prompts_n"] for one in grown.notes[labelling.NOTE]["tasks"]}
        assert sizes == {task: [*now.values()].count(task) for task in sizes}


def test_fixed_votes_of_a_grown_pool_are_not_counted_as_labels_and_keep_their_confidence() -> None:
    first = done(EVERY[:100], NEAREST)
    before = by_id(first.votes, "confidence")
    given = labels.from_column(pool(EVERY))
    grown = partial.grown(pool(EVERY), given, Fixed(first.table, first.notes), NEAREST, str, before)
    told = grown.notes[partial.NOTE]
    assert (told["labelled_n"], told["kept_n"]) == (sum(map(bool, TASKS)), len(before))
    assert told["assigned_n"] == TASKS.count(None)
    sure = by_id(grown.votes, "confidence")
    assert before.items() <= sure.items() and len(sure) == TASKS.count(None)
    assert told["mean_confidence"] == pytest.approx(np.mean([*sure.values()]), abs=1e-4)
    assert f"The tasks of {len(before)} of them are fixed" in partial.stated(grown.notes)
    given = labels.from_column(pool(EVERY[:100]))
    same = partial.grown(pool(EVERY[:100]), given, Fixed(first.table, first.notes), NEAREST, str, before)
    assert by_id(same.votes, "confidence") == before and by_id(same.table, "how") == by_id(first.table, "how")
    assert same.notes[partial.NOTE]["accuracy"] == first.notes[partial.NOTE]["accuracy"]


def test_only_given_labels_are_judged_and_judge() -> None:
    given = [("a", "b")[i % 2] for i in range(8)]
    alone = label_votes.voted(PROMPTS[:20], IDS[:20], [*given, *[None] * 12])
    helped = label_votes.voted(PROMPTS[:20], IDS[:20], [*given, *["a"] * 12], [i < 8 for i in range(20)])
    assert (helped.accuracy, helped.judged_n) == (alone.accuracy, 8)


def test_given_labels_vote_before_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_votes, "VOTERS_MAX", 3)
    tasks = [None, *["given"] * 3, *["voted"] * 150]
    votes = label_votes.voted(PROMPTS[:154], IDS[:154], tasks, [0 < i < 4 for i in range(154)])
    assert (votes.tasks[0], votes.confidence[0], votes.judged_n) == ("given", 1, 3)


def test_too_few_labelled_tasks_for_divided_votes_are_refused() -> None:
    for tasks_n, why in ((1, "1 task, so one always gets 100%"), (2, "2 tasks, so one always gets 60%")):
        rows = [i for i in EVERY if TASKS[i] is None or TASKS[i] in LABELLED[:tasks_n]]
        with pytest.raises(ValueError, match=why):
            done(rows, FOUND)
        assert "discovered" not in by_id(done(rows, NEAREST).table, "how").values()


@pytest.mark.parametrize(
    ("tasks", "accuracy"), [(["only", None, None], None), (["a", "b", None], 0.0), (["a", "a", None], 1.0)]
)
def test_few_labels(tasks: list[str | None], accuracy: float | None) -> None:
    votes = label_votes.voted(PROMPTS[:3], IDS[:3], tasks)
    assert votes.accuracy == accuracy and votes.tasks[2] in tasks
    assert 0 < votes.confidence[2] <= 1 and np.isnan(votes.confidence[0])


def test_a_pool_without_any_label_and_settings_that_do_not_fit_are_one_sentence() -> None:
    bare = labels.labelled(pool(EVERY), ["(no task)"] * len(EVERY), ["none"] * len(EVERY))
    with pytest.raises(ValueError, match=r"`missing: nearest` needs prompts with a task, and none of the 160 prompts"):
        partial.completed(pool(EVERY), bare, NEAREST, 8, str)
    with pytest.raises(ValueError, match="`missing` is for prompts without a task in a column or file"):
        TaskLabels.model_validate({"from": "discovered", "missing": "nearest"})
    with pytest.raises(ValueError, match="`tasks` is the number of tasks to find"):
        TaskLabels.model_validate({"missing": "nearest", "tasks": 4})


def test_a_mapping_file_may_lack_prompts(tmp_path: Path) -> None:
    path = tmp_path / "tasks.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt_id", "task"), (IDS[0], "a"), (IDS[1], ""), (IDS[2], "b")])
    whole = TaskLabels.model_validate({"from": "mapping", "path": str(path)})
    with pytest.raises(ValueError, match="expected both"):
        labels.from_mapping(pool(EVERY[:4]), whole)
    some = whole.model_copy(update={"missing": "nearest"})
    assert Counter(labels.from_mapping(pool(EVERY[:4]), some)["how"].to_pylist()) == {"mapping": 2, "none": 2}
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt_id", "task"), (IDS[0], "a")])
    with pytest.raises(
        ValueError, match=r"gives no task for 3 of 4 prompts.*or add `missing: nearest` to `task_labels`"
    ):
        labels.from_mapping(pool(EVERY[:4]), whole)
