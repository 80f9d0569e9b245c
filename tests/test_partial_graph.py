"""A CSV that names the tasks of some prompts only: from the file to the list, by the command line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow.compute as pc
import pytest

from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.pools.discovery import partial
from taskdiv_assets.storage.store import Store
from tests.annotating.conftest import make_list
from tests.home import Home
from tests.pools.test_discovery import mixed

EXPERIMENT = """name: partly
purpose: campaign
pool: {reader: table, path: pool.csv, columns: {prompt: question, task: topic}}
task_labels: {missing: nearest}
strategies: [task_diversity]
budgets: [6]
"""
PROMPTS, KINDS = mixed(90, kinds=("reset", "refund", "poem"))
ROWS = [
    (f"{text} (no. {i})", kind if i % 3 == 0 else "") for i, (text, kind) in enumerate(zip(PROMPTS, KINDS, strict=True))
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    found = Home(tmp_path)
    for name, value in found.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "partly.yaml").write_text(EXPERIMENT)
    write_pool(60)
    return found


def write_pool(rows_n: int) -> None:
    with Path("pool.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "topic"), *ROWS[:rows_n]])


def made() -> dict[str, str]:
    make_list(experiment_file.load("partly.yaml"), "6|task_diversity")
    rows = Store("partly").read_table("task_labels").table.to_pylist()
    return {row["prompt_id"]: row["task"] for row in rows}


def store() -> Store:
    return Store("partly")


def sure(home: Home) -> dict[str, str]:
    """Return the confidence of each prompt with a voted task, as `taskdiv tasks export` writes it."""
    assert home.say("tasks", "export", "partly.yaml", "-o", "all.csv").returncode == 0
    rows = [*csv.DictReader(io.StringIO(Path("all.csv").read_text("utf-8-sig")))]
    Path("all.csv").unlink()
    return {row["prompt"]: row["confidence"] for row in rows if row["confidence"]}


def test_from_a_partly_labelled_file_to_a_list(home: Home) -> None:
    Path("partly.yaml").write_text(EXPERIMENT.replace("task_labels: {missing: nearest}\n", ""))
    with pytest.raises(
        ValueError, match=r"40 of 60 prompts have no source_task.*add `missing: nearest` to `task_labels`"
    ):
        made()
    Path("partly.yaml").write_text(EXPERIMENT)
    first = made()
    assert {*first.values()} == {"reset", "refund", "poem"}
    said = "20 labelled prompts voted on the tasks of 40 others, with a mean confidence of"
    assert said in home.say("tasks", "show", "partly.yaml").stdout
    assert home.say("tasks", "export", "partly.yaml", "-o", "tasks.csv").returncode == 0
    rows = [*csv.DictReader(io.StringIO(Path("tasks.csv").read_text("utf-8-sig")))]
    assert [*rows[0]] == ["prompt_id", "task", "confidence", "prompt"]
    given = {text for text, topic in ROWS[:60] if topic}
    assert {row["prompt"] for row in rows if not row["confidence"]} == given
    assert all(0 < float(row["confidence"]) <= 1 for row in rows if row["confidence"])
    assert home.say("annotations", "export", "partly.yaml", "--budget", "6", "-o", "sent.csv").returncode == 0
    write_pool(90)
    second = made()
    assert first.items() <= second.items() and len(second) == 90
    Path("partly.yaml").write_text(EXPERIMENT.replace("nearest", "discovered"))
    refused = home.say("tasks", "find-anew", "partly.yaml")
    assert "of 6 bought labels would move to another task" in " ".join(refused.stdout.split())
    assert "the file has" not in refused.stderr and "add --yes" in refused.stderr
    assert sure(home).keys() == {text for text, topic in ROWS if not topic}, "old votes keep their confidence"
    shown = home.say("tasks", "show", "partly.yaml").stderr + home.say("tasks", "show", "partly").stdout
    assert "The tasks of 40 of them are fixed" in " ".join(shown.split())
    assert home.say("tasks", "find-anew", "partly.yaml", "--yes").returncode == 0
    made()
    found = store().read_table("task_labels").table.filter(pc.field("how").cast("string") == "nearest").num_rows
    assert len(sure(home)) == found


@pytest.mark.full  # imports Great Expectations
def test_the_plan_accepts_the_file_and_divided_votes_are_warned_of(home: Home) -> None:
    assert home.say("plan", "partly.yaml").returncode == 0
    made()
    experiment, store = experiment_file.load("partly.yaml"), Store("partly")
    confidence = store.read_table("task_labels").footer.notes[partial.NOTE]["mean_confidence"]
    (checked,) = [one for one in check_stored(experiment, store) if one.unit.asset == "task_labels"]
    assert [rule.rule for rule in checked.failed] == (["voted_tasks_are_sure"] if confidence < 0.7 else [])
