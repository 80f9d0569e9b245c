"""Tasks by the user's rules: the first match wins, keywords are whole words, and no pattern can hang a run."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from pydantic import ValidationError

from data_contracts import load
from taskdiv_assets.experiment.pool_settings import TaskLabels, TaskRule
from taskdiv_assets.pools.discovery import labelling, task_rules
from taskdiv_assets.pools.frame import Part, raw_pool

PROMPTS = ["Money back, please!", "a refund or a login", "LOGIN fails", "relogins", "我要退款，谢谢", "something else"]


def rules(*entries: dict[str, object]) -> tuple[TaskRule, ...]:
    return tuple(TaskRule.model_validate(entry) for entry in entries)


def pool(prompts: list[str]) -> pa.Table:
    return raw_pool([Part.whole("p", prompts, [None] * len(prompts), [None] * len(prompts))]).table.sort_by("prompt_id")


def labelled(table: pa.Table, **settings: object) -> labelling.Labelled:
    return labelling.by_texts(table, TaskLabels.model_validate(settings), 10, lambda line: None)


def test_the_first_rule_that_matches_wins() -> None:
    chosen = rules(
        {"task": "refunds", "pattern": "refund|money back"}, {"task": "logins", "keywords": ["login", "退款"]}
    )
    assert task_rules.matched(PROMPTS, chosen) == [0, 0, 1, None, 1, None]
    assert task_rules.matched(PROMPTS, chosen[::-1]) == [1, 0, 0, None, 0, None]


def test_keywords_are_whole_words_and_no_patterns() -> None:
    chosen = rules({"task": "a", "keywords": ["c++", "not  found", "naïve"]})
    texts = ["C++ code", "c+++", "cc", "error: Not\nfound", "notfound", "NAÏVE?", "naïveté"]
    assert task_rules.matched(texts, chosen) == [0, 0, None, 0, None, 0, None]


def test_a_pattern_that_would_hang_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_rules, "TEXT_LIMIT_S", 0.2)
    started = time.process_time()
    with pytest.raises(
        ValueError, match=r"pattern '\(x\+x\+\)\+y' of task 'slow' took more than 0.2 s on the prompt that starts 'xx"
    ):
        task_rules.matched(["x" * 5_000], rules({"task": "slow", "pattern": "(x+x+)+y"}))
    assert time.process_time() - started < 5


def test_rules_that_are_slow_on_the_whole_pool_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_rules, "LIMIT_S", -1.0)
    with pytest.raises(ValueError, match="the rules took -1 s for 0 of 1 prompts"):
        task_rules.matched(["a"], rules({"task": "a", "keywords": ["b"]}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"from": "rules"}, "`from: rules` needs `rules:"),
        ({"from": "rules", "rules": [{"task": "a"}]}, "either `pattern: EXPRESSION` or `keywords:"),
        ({"from": "rules", "rules": [{"task": "a", "pattern": "("}]}, "is not a regular expression: missing \\)"),
        ({"from": "rules", "rules": [{"task": "a", "pattern": "b", "keywords": ["c"]}]}, "either `pattern"),
        ({"from": "rules", "rules": [{"task": "a", "pattern": "b"}], "rest": "c", "tasks": 5}, "`tasks` is the number"),
        ({"from": "column", "tasks": 5}, "`tasks` is the number of tasks to find"),
        ({"from": "discovered", "tasks": 1}, "greater than or equal to 2"),
        ({"from": "discovered", "path": "a.csv"}, "`from: mapping` needs `path`"),
        ({"from": "discovered", "key": "a"}, "`key` and `task` name columns of a mapping file"),
        ({"from": "discovered", "rest": "a"}, "`rest` is the task of prompts that no rule matches"),
        ({"from": "discovered", "view": "mine"}, "words"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TaskLabels.model_validate(settings)


def test_the_rest_gets_one_task_or_found_tasks() -> None:
    table = pool([f"refund number {i}" for i in range(20)] + [f"write a poem about {i}" for i in range(30)])
    rule = {"task": "refunds", "keywords": ["refund"]}
    one = labelled(table, **{"from": "rules", "rules": [rule], "rest": "others"})
    assert one.table.schema.equals(load("task_labels").arrow_schema)
    assert one.table["task"].to_pylist().count("others") == 30 and {*one.table["how"].to_pylist()} == {"rules"}
    assert one.notes == {"tasks_n": 2, "prompts_by_rule": [20]}
    found = labelled(table, **{"from": "rules", "rules": [rule], "tasks": 2})
    rows = found.table.to_pylist()
    assert sum(row["how"] == "discovered" for row in rows) == 30
    assert {row["task"] for row in rows if row["how"] == "rules"} == {"refunds"}
    assert sum(one["prompts_n"] for one in found.notes[labelling.NOTE]["tasks"]) == 30


def test_a_found_task_never_takes_the_name_of_a_rules_task() -> None:
    table = pool([f"poem {'short' * (i % 2)}" for i in range(20)] + ["apple"])
    found = labelled(table, **{"from": "rules", "rules": [{"task": "Poem", "keywords": ["apple"]}], "tasks": 2})
    names = {row["task"] for row in found.table.to_pylist() if row["how"] == "discovered"}
    assert names and "poem" not in {name.casefold() for name in names}
