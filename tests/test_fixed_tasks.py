"""Found tasks are fixed once annotations were bought: a grown pool keeps them, and new tasks are an explicit act."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskdiv_assets.annotating import importing
from taskdiv_assets.annotating.answer_files import read_answers
from taskdiv_assets.annotating.new_tasks import moved
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.task_labels import make_task_labels, prepare_task_labels, summary_task_labels
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.graph import fixed_tasks
from taskdiv_assets.graph.units import State, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.discovery import agreement, growth, labelling
from taskdiv_assets.pools.discovery.frozen_tasks import Fixed
from taskdiv_assets.storage.store import Store
from tests.annotating.conftest import make_list
from tests.graph import make_unit
from tests.home import Home
from tests.pools.test_discovery import ids_of, mixed

KINDS = ("reset", "refund", "poem", "chinese")
EXPERIMENT = """name: found
purpose: campaign
pool: {reader: table, path: pool.csv, columns: {prompt: question}}
task_labels: {from: discovered}
strategies: [task_diversity]
budgets: [8]
"""
PROMPTS = [f"{text} (no. {i})" for i, text in enumerate(mixed(200, kinds=KINDS)[0])]
LABELS = Unit("task_labels")


class Campaign:
    """A campaign over found tasks in a folder. `rows_n` prompts are in its pool."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.write()
        self.grow(PROMPTS[:160])

    def write(self, *changes: tuple[str, str]) -> None:
        text = EXPERIMENT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (self.home.folder / "found.yaml").write_text(text)

    def grow(self, prompts: list[str]) -> None:
        with (self.home.folder / "pool.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("question",), *((text,) for text in prompts)])

    @property
    def store(self) -> Store:
        return Store("found")

    def make(self) -> dict[str, str]:
        """Make the list, and return the task of each prompt."""
        make_list(experiment_file.load("found.yaml"), "8|task_diversity")
        rows = self.store.read_table("task_labels").table.to_pylist()
        return {row["prompt_id"]: row["task"] for row in rows}

    def export(self, name: str = "sent.csv") -> None:
        done = self.home.say("annotations", "export", "found.yaml", "--budget", "8", "-o", name)
        assert done.returncode == 0, done.stderr

    def state(self) -> State:
        return REGISTRY.look(experiment_file.load("found.yaml"), self.store).state(LABELS)

    def records(self) -> list[str]:
        return [name for name in self.store.names("frozen_tasks") if name.endswith(".json")]


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    home = Home(tmp_path)
    for name, value in home.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Campaign(home)


def test_a_grown_pool_keeps_old_tasks_and_new_prompts_join_them(campaign: Campaign) -> None:
    first = campaign.make()
    shown = campaign.home.say("tasks", "show", "found.yaml").stdout
    assert "are fixed" not in shown and "The rule chose 4 tasks by the smallest budget: 8 labels give each" in shown
    stored = campaign.store.read_table("task_labels").footer.notes
    assert "by the smallest budget" in summary_task_labels(stored) and "4 (chosen) → " in summary_task_labels(stored)
    del stored[labelling.NOTE][labelling.CURVE]  # as an earlier version stored it
    assert "chose" not in summary_task_labels(stored)
    campaign.export()
    assert campaign.state().status == "fresh" and campaign.records() == ["000001.json"]
    assert "the tasks are fixed, because annotations were bought" in campaign.home.say("tasks", "show", "found").stdout

    strange = "Quantum chromodynamics for beginners"
    campaign.grow([strange, *reversed(PROMPTS)])
    second = campaign.make()
    assert {one: second[one] for one in first} == first and len(second) == 201
    assert {*second.values()} == {*first.values()}
    pool = campaign.store.read_table("raw_pool").table
    texts = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    kind = {first[one]: texts[one][:2] for one in first}
    assert all(kind[task] == texts[one][:2] for one, task in second.items() if texts[one] != strange)
    shown = campaign.home.say("tasks", "show", "found.yaml").stdout
    assert "41 prompts came after annotations were bought, and joined the nearest of the tasks" in shown
    assert "the tasks are fixed" in campaign.home.say("tasks", "export", "found.yaml", "-o", "tasks.csv").stderr
    counted = campaign.store.read_table("task_labels").footer.notes[labelling.NOTE]["tasks"]
    assert {one["task"]: one["prompts_n"] for one in counted} == {t: [*second.values()].count(t) for t in kind}

    campaign.home.say(
        "annotations", "export", "found.yaml", "--budget", "8", "-o", "more.csv"
    )  # fixes the grown pool, too
    assert campaign.state().status == "fresh" and campaign.records() == ["000001.json", "000002.json"]
    campaign.grow(PROMPTS[:10])  # a smaller pool keeps the tasks of its prompts
    assert campaign.make().items() <= second.items()
    campaign.grow(["What else?"])
    with pytest.raises(ValueError, match="none of the 1 prompts of the pool"):
        campaign.make()


def test_the_tasks_survive_a_lost_table_and_changed_settings_are_refused(campaign: Campaign) -> None:
    first = campaign.make()
    campaign.export()
    campaign.store.put(b"damaged", "tables", "task_labels.parquet")
    campaign.grow(PROMPTS)
    assert first.items() <= campaign.make().items()
    for name, change in {
        "tasks": "discovered, tasks: 3",
        "from": "rules, rules: [{task: a, keywords: [poem]}]",
    }.items():
        campaign.write(("from: discovered", f"from: {change}"))
        state = campaign.state()
        assert state.status == "blocked"
        assert f"another `{name}` than when annotations of found were bought" in state.reason
        assert "set it back, or run `taskdiv tasks find-anew` with this file" in state.reason
    stored = campaign.store.get("experiment.yaml")
    for command in (("plan", "found.yaml"), ("run", "found.yaml", "--replace")):
        said = campaign.home.say(*command)
        assert said.returncode == 2 and "taskdiv tasks find-anew" in said.stderr
    assert campaign.store.get("experiment.yaml") == stored, "the file must not be stored, or later commands fail, too"
    ids = campaign.store.read_table("raw_pool").table["prompt_id"].to_pylist()
    campaign.write(("{from: discovered}", "{from: mapping, path: mine.csv}"))
    rows = [("prompt_id", "task"), *((one, "mine") for one in ids)]
    with (campaign.home.folder / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert {*campaign.make().values()} == {"mine"}, "a mapping file is the user's own, so it is used as it is"
    campaign.write()
    assert first.items() <= campaign.make().items()


def test_find_anew_says_what_moves_and_asks(campaign: Campaign) -> None:
    say = campaign.home.say
    assert "no found tasks of found are fixed: no annotations" in say("tasks", "find-anew", "found.yaml").stderr
    first = campaign.make()
    campaign.export()
    assert "the same tasks would be found" in say("tasks", "find-anew", "found.yaml").stdout
    campaign.write(("{from: discovered}", "{from: discovered, tasks: 2}"))
    refused = say("tasks", "find-anew", "found.yaml")
    assert (
        refused.returncode == 2 and "there is no terminal to ask on; to use the new tasks, add --yes" in refused.stderr
    )
    told = " ".join(refused.stdout.split())
    assert "of 8 bought labels would move to another task, and " in told and "2 tasks would replace 4" in told
    assert campaign.records() == ["000001.json"] and campaign.state().status == "blocked"

    done = say("tasks", "find-anew", "found.yaml", "--yes")
    assert done.returncode == 0 and "the new tasks are fixed; `taskdiv run found.yaml`" in done.stdout
    assert campaign.state().status == "stale" and campaign.records() == ["000001.json", "000002.json"]
    second = campaign.make()
    assert len({*second.values()}) == 2 and second.keys() == first.keys()
    campaign.export("again.csv")
    assert campaign.records() == ["000001.json", "000002.json"], "the same tasks are not fixed twice"
    campaign.grow(PROMPTS)
    assert second.items() <= campaign.make().items()
    campaign.write()
    assert campaign.state().status == "blocked"


def test_an_import_fixes_tasks_too_and_a_broken_record_is_one_sentence(campaign: Campaign) -> None:
    first = campaign.make()
    path = campaign.home.folder / "answers.jsonl"
    path.write_text("".join(json.dumps({"prompt_id": one, "response": "yes"}) + "\n" for one in [*first][:2]))
    lineage = REGISTRY.look(experiment_file.load("found.yaml"), campaign.store)
    importing.import_answers(lineage, read_answers(path), None)
    assert campaign.records() == ["000001.json"]
    assert fixed_tasks.is_bought(campaign.store)
    path = campaign.home.folder / "results/found/frozen_tasks/000001.json"
    whole = path.read_text()
    for broken in ("", "[]", "[" * 100_000, "{}", '{"labels": "a", "prompts": "b", "settings": 5}'):
        path.write_text(broken)
        state = campaign.state()
        assert state.status == "blocked" and "000001.json is damaged" in state.reason
        assert "restore it from a backup, or remove the folder" in state.reason
    path.write_text(whole)
    (path.parent / f"{json.loads(whole)['labels']}.parquet").unlink()
    campaign.grow(PROMPTS)
    with pytest.raises(ValueError, match="the file is missing"):
        campaign.make()


def test_an_import_before_the_next_run_does_not_undo_find_anew(campaign: Campaign) -> None:
    first = campaign.make()
    campaign.export()
    campaign.write(("{from: discovered}", "{from: discovered, tasks: 2}"))
    assert campaign.home.say("tasks", "find-anew", "found.yaml", "--yes").returncode == 0
    path = campaign.home.folder / "answers.jsonl"
    path.write_text("".join(json.dumps({"prompt_id": one, "response": "yes"}) + "\n" for one in [*first][:2]))
    lineage = REGISTRY.look(experiment_file.load("found.yaml"), campaign.store)
    importing.import_answers(lineage, read_answers(path), None)
    assert campaign.records() == ["000001.json", "000002.json"] and campaign.state().status == "stale"
    assert len({*campaign.make().values()}) == 2


def test_a_new_version_of_the_search_or_of_the_votes_is_not_a_changed_setting() -> None:
    before = {
        "from": "column",
        "missing": "discovered",
        "votes": 1,
        "discovery": 1,
        "tasks": None,
        "tasks_for_budget": 8,
    }
    now = {**before, "votes": 2, "discovery": 2, "tasks_for_budget": 9}
    assert fixed_tasks.changes(before, now) == []
    assert fixed_tasks.changes(before, {**now, "missing": "nearest"}) == ["missing"]


def test_settings_of_a_table_from_an_earlier_version_are_fixed_too(campaign: Campaign) -> None:
    campaign.make()
    experiment, store = experiment_file.load("found.yaml"), campaign.store
    stored = store.read_table("task_labels")
    settled = stored.footer.notes[fixed_tasks.SETTINGS]
    bare = {name: value for name, value in stored.footer.notes.items() if name != fixed_tasks.SETTINGS}
    table = stored.table.replace_schema_metadata(None)
    store.write_table(table, replace(stored.footer, notes=bare))
    campaign.export()  # before a run of this version
    lineage = REGISTRY.look(experiment, store)
    made = make_task_labels(Work(experiment, store, lineage, LABELS, lineage.expect(LABELS), str))
    assert made.notes == {**bare, fixed_tasks.SETTINGS: settled} and made.table.equals(table)
    store.write_table(table, replace(stored.footer, notes=made.notes))
    assert fixed_tasks.fix(store) and campaign.records() == ["000001.json", "000002.json"]
    campaign.write(("{from: discovered}", "{from: discovered, tasks: 3}"))
    assert campaign.state().status == "blocked"


@pytest.mark.full  # the fast tests fix tasks at the export
def test_tasks_that_an_earlier_version_did_not_fix_are_fixed_by_the_next_run(campaign: Campaign) -> None:
    first = campaign.make()
    campaign.export()
    for name in campaign.store.names("frozen_tasks"):
        campaign.store.remove("frozen_tasks", name)
    campaign.grow(PROMPTS)
    experiment, store = experiment_file.load("found.yaml"), campaign.store
    make_unit(experiment, store, Unit("raw_pool"))
    lineage = REGISTRY.look(experiment, store)
    assert prepare_task_labels(Work(experiment, store, lineage, LABELS, lineage.expect(LABELS), str))
    assert first.items() <= campaign.make().items()


KILLED = """
import os, signal, sys
from taskdiv_assets import cli
from taskdiv_assets.storage.store import Store
place, whole = sys.argv[1], Store.put_new
def put_new(store, data, *parts):
    if place in "/".join(parts):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(store, data, *parts)
def put(store, data, *parts):
    if place in "/".join(parts):
        os.kill(os.getpid(), signal.SIGKILL)
Store.put_new = put_new
if place == "exports/":
    Store.put = put
cli.app(sys.argv[2:])
"""


@pytest.mark.full
def test_a_kill_between_fixing_and_storing_leaves_a_state_that_continues(campaign: Campaign) -> None:
    def killed_at(place: str, *command: str) -> None:
        environment = {**os.environ, **campaign.home.variables()}
        done = subprocess.run([sys.executable, "-c", KILLED, place, *command], env=environment, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr

    export = ("annotations", "export", "found.yaml", "--budget", "8", "-o", "sent.csv")
    first = campaign.make()
    killed_at(".json", *export)
    assert campaign.records() == [] and campaign.store.names("frozen_tasks")
    killed_at("exports/", *export)
    assert campaign.records() == ["000001.json"] and not fixed_tasks.is_bought(campaign.store)
    campaign.write(("{from: discovered}", "{from: discovered, tasks: 3}"))
    assert campaign.state().status == "stale", "nothing was sent, so other tasks may be found"
    campaign.write()
    campaign.export()
    campaign.grow(PROMPTS)
    assert first.items() <= campaign.make().items()
    campaign.write(("{from: discovered}", "{from: discovered, tasks: 3}"))
    killed_at(".json", "tasks", "find-anew", "found.yaml", "--yes")
    assert campaign.records() == ["000001.json"] and campaign.state().status == "blocked"
    assert campaign.home.say("tasks", "find-anew", "found.yaml", "--yes").returncode == 0
    assert len({*campaign.make().values()}) == 3


# --- properties ------------------------------------------------------------------------------------------------------

TEXTS, _ = mixed(200, kinds=KINDS)
IDS = ids_of(TEXTS)
WANTED = TaskLabels.model_validate({"from": "discovered", "tasks": 4})


def pool_of(rows: list[int]) -> pa.Table:
    return pa.table({"prompt_id": [IDS[i] for i in rows], "prompt": [TEXTS[i] for i in rows]})


def tasks_of(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["prompt_id"].to_pylist(), table["task"].to_pylist(), strict=True))


FOUND = labelling.by_texts(pool_of([*range(120)]), WANTED, 8, str)
GROWN = tasks_of(growth.grown(pool_of([*range(200)]), Fixed(FOUND.table, FOUND.notes), WANTED, 8, str).table)


@settings(max_examples=4, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(120, 200))
def test_growth_does_not_depend_on_the_order_or_on_the_other_new_prompts(shuffle: random.Random, rows_n: int) -> None:
    order = [*range(rows_n)]
    shuffle.shuffle(order)
    grown = growth.grown(pool_of(order), Fixed(FOUND.table, FOUND.notes), WANTED, 8, str)
    assert tasks_of(grown.table) == {IDS[i]: GROWN[IDS[i]] for i in range(rows_n)}
    assert grown.table.schema.equals(labels.SCHEMA) and grown.notes["tasks_n"] == 4


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_moved_prompts_are_outside_the_best_matching(pairs: list[tuple[int, int]]) -> None:
    import numpy as np

    old, new = (np.unique(side, return_inverse=True)[1] for side in zip(*pairs, strict=True))
    share = agreement.moved_share(old, new)
    assert moved([str(a) for a, _ in pairs], [str(b) for _, b in pairs]).mean() == pytest.approx(share)


def test_rules_give_new_prompts_their_tasks_first() -> None:
    ruled = TaskLabels.model_validate({"from": "rules", "tasks": 3, "rules": [{"task": "poems", "keywords": ["poem"]}]})
    found = labelling.by_texts(pool_of([*range(120)]), ruled, 8, str)
    grown = growth.grown(pool_of([*range(200)]), Fixed(found.table, found.notes), ruled, 8, str).table
    for row in grown.to_pylist():
        is_poem = "poem" in TEXTS[IDS.index(row["prompt_id"])]
        assert (row["task"] == "poems", row["how"] == "rules") == (is_poem, is_poem)
    only = [i for i in range(120) if "poem" in TEXTS[i]]  # no task was found yet, so the new prompts may form some
    found = labelling.by_texts(pool_of(only), ruled, 8, str)
    grown = growth.grown(pool_of([*range(200)]), Fixed(found.table, found.notes), ruled, 8, str).table
    assert len(grown["task"].unique()) > 2 and tasks_of(found.table).items() <= tasks_of(grown).items()
