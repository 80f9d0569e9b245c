"""A pool of a user's own prompts without answers. Its lists are made once; each test that writes gets a copy."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from taskdiv_assets.commands import running
from taskdiv_assets.commands.opening import open_experiment
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.orchestration import instance
from taskdiv_assets.storage.store import Store
from tests.golden import variables_of
from tests.graph import make_unit
from tests.home import Home

# What spreadsheet programs and delimiters trip over. The ids of the counting prompts look like numbers.
QUESTIONS = {
    "letters": ["Reverse abcd", "First of abcd", "Upper abcd", "Ünïcode, 日本 🙂?"],
    "formulas": ["=1+1", "@SUM(A1:A9)", "-2 or +2?", '+1; "quoted", and\nin two lines\r\nor three'],
    "odd": ["Count to 246", "Count to 3473", "Count to 2111", "Count to 3560"],
}
EXPERIMENT = """
name: own
purpose: campaign
pool: {reader: table, path: questions.csv, columns: {prompt: question, task: topic}}
base_model: {path: nowhere}        # lists of these strategies need no model
strategies: [task_diversity, random]
budgets: [6, 12]
seeds: [0, 1]
tuning: {learning_rate: 1.0e-3, epochs: 1}
benchmarks: [{name: bbh, limit: 1}]
primary: {strategy: task_diversity, reference: random, benchmark: bbh, metric: exact_match}
annotation: {instructions: "Two sentences, please.", price: 0.5}
"""
# The user's own ids, an extra column, and one question three times.
TICKETS = [
    ("00123", "Warum ist mein Päckchen noch nicht da?", "mail", "delivery"),
    ("T-2", "Where is my order?", "chat", "delivery"),
    ("T-3", "Where is my order?", "phone", "delivery"),
    ("T-4", "Can I pay in €?", "mail", "payment"),
    ("1e5", "=SUM(1;2) does not work", "", "payment"),
    ("T-6", "Refund [bold]now[/bold]\x1b[2J\0!", "[red]web[/]", "payment"),
    ("T-7", "Where is my order?", "mail", "payment"),
    ("8", "How do I return a lamp?", "mail", "returns"),
]
CAMPAIGN = """
purpose: campaign
strategies: [task_diversity, random]
budgets: [4]
annotation: {price: 1.5, currency: EUR}
name: tickets
pool: {reader: table, path: tickets.csv, columns: {prompt: question, id: ticket, task: topic}}
"""
PLAIN = """
name: plain
purpose: campaign
strategies: [random]
budgets: [5]
pool: {reader: table, path: tickets.csv, columns: {prompt: question}}
"""
STUDY = """
name: study
purpose: study
pool: {reader: table, path: tickets.csv, columns: {prompt: question, id: ticket, task: topic}}
base_model: {path: nowhere}
strategies: [task_diversity, random]
budgets: [6]
seeds: [0, 1]
tuning: {learning_rate: 1.0e-3, epochs: 1}
benchmarks: [{name: bbh, limit: 1}]
primary: {strategy: task_diversity, reference: random, benchmark: bbh, metric: exact_match}
"""
LISTS = {
    "own": ("6|task_diversity", "12|task_diversity"),
    "tickets": ("4|task_diversity", "4|random"),
    "plain": ("5|random",),
    "study": ("6|random",),
}


def make_list(experiment: Experiment, key: str) -> None:
    """Make the list of a cell."""
    store, strategy = Store(experiment.name), Cell.parse(key).strategy
    units = [Unit("raw_pool"), Unit("task_labels"), Unit("annotations"), Unit("ranking", strategy)]
    for unit in [*units, Unit("allocation", key), Unit("annotation_batch", key)]:
        make_unit(experiment, store, unit)


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home with `own`, a campaign with lists of 6 and 12 prompts, and with other experiments. Nothing is exported."""
    home = Home(tmp_path_factory.mktemp("lists"))
    with (home.folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "topic"])
        writer.writerows([text, topic] for topic, texts in QUESTIONS.items() for text in texts)
    with (home.folder / "tickets.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("ticket", "question", "channel", "topic"), *TICKETS])
    for name, text in {"own": EXPERIMENT, "tickets": CAMPAIGN, "plain": PLAIN, "study": STUDY}.items():
        (home.folder / f"{name}.yaml").write_text(text)
    with variables_of(home), pytest.MonkeyPatch.context() as patch, instance.open_instance() as opened_instance:
        patch.chdir(home.folder)
        for name, keys in LISTS.items():
            chosen = open_experiment(f"{name}.yaml")
            running.register_budgets(chosen, Store(name), opened_instance, chosen.budgets)
            for key in keys:
                make_list(chosen, key)
    return home


@pytest.fixture
def own(lists: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a copy of the home `lists`, and set the environment of this process to the copy."""
    for name in ("results", "dagster"):
        shutil.copytree(lists.folder / name, tmp_path / name)
    home = Home(tmp_path)
    for name, value in home.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def store(own: Home) -> Store:
    return Store("own")


@pytest.fixture
def experiment(own: Home) -> Experiment:
    return experiment_file.parse(*experiment_file.read_text(str(own.folder / "results/own/experiment.yaml")))


def opened(home: Home, name: str) -> tuple[Experiment, Store]:
    """Return an experiment of the home as it is stored, and its store."""
    path = str(home.folder / f"results/{name}/experiment.yaml")
    return experiment_file.parse(*experiment_file.read_text(path)), Store(name)


@pytest.fixture
def ids(store: Store) -> list[str]:
    """Return the prompt_ids of the pool, in the order of `QUESTIONS`."""
    rows = store.read_table("raw_pool").table.sort_by("position")
    return [str(prompt_id) for prompt_id in rows["prompt_id"].to_pylist()]


def imports(home: Home) -> list[list[dict[str, Any]]]:
    """Return the rows of every stored import, the oldest first."""
    paths = (home.folder / "results/own/annotations").glob("*.parquet")
    return sorted((pq.read_table(path).to_pylist() for path in paths), key=lambda rows: rows[0]["imported_at"])
