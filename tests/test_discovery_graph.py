"""Found tasks in the graph: what makes them stale, their export and import as a mapping file, and warnings."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.experiment.pool_settings import TaskLabels
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import labels
from taskdiv_assets.pools.discovery import labelling
from tests.graph import Graph, failure
from tests.home import Home
from tests.pools.test_discovery import mixed

pytestmark = pytest.mark.xdist_group("discovery_graph")
KINDS = ("reset", "refund", "poem", "chinese")
EXPERIMENT = """name: found
pool: {reader: table, path: pool.csv, columns: {prompt: question, response: answer}}
task_labels: {from: discovered}
strategies: [task_diversity, random]
budgets: [8]
"""


class Campaign:
    """A pool of four kinds of prompts without a task column, and its graph for the experiment file as it is now."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance
        prompts, _ = mixed(160, kinds=KINDS)
        rows = [(f"{text} (no. {i})", "yes" if i % 2 else "") for i, text in enumerate(prompts)]
        with (home.folder / "pool.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("question", "answer"), *rows])
        self.write()

    def write(self, *changes: tuple[str, str]) -> None:
        text = EXPERIMENT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (self.home.folder / "found.yaml").write_text(text)

    @property
    def graph(self) -> Graph:
        return Graph(self.home.folder / "found.yaml", self.instance)

    def run(self, *names: str, key: str | None = None) -> dg.ExecuteInProcessResult:
        result = self.graph.run(*names, key=key)
        assert result.success, failure(result)
        return result

    def labels(self) -> pa.Table:
        return self.graph.store.read_table("task_labels").table

    def tasks(self) -> dict[str, str]:
        table = self.labels()
        return dict(zip(table["prompt_id"].to_pylist(), table["task"].to_pylist(), strict=True))

    def status(self) -> str:
        return self.graph.lineage().state(Unit("task_labels")).status

    def identity(self) -> str:
        return self.graph.lineage().expect(Unit("task_labels")).identity


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    home = Home(tmp_path_factory.mktemp("found"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        yield Campaign(home, instance)


@pytest.fixture
def campaign(made: Campaign) -> Campaign:
    made.write()
    return made


def warned(result: dg.ExecuteInProcessResult) -> set[str]:
    return {one.check_name for one in result.get_asset_check_evaluations() if not one.passed}


def described(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    (event,) = [one for one in result.get_asset_materialization_events() if one.asset_key.path[-1] == "task_labels"]
    return event.step_materialization_data.materialization.metadata


def test_found_tasks_reach_the_ranking_and_later_budgets_do_not_change_them(campaign: Campaign) -> None:
    result = campaign.run("pool", "raw_pool", "task_labels")
    assert warned(result) == set()
    metadata = described(result)
    assert "no picture" not in metadata and metadata["picture"].value.startswith("![task_labels](data:image/png")
    assert "4 tasks were found" in metadata["summary"].value and "Please refund the order" in metadata["summary"].value
    tasks, identity = campaign.tasks(), campaign.identity()
    assert len(set(tasks.values())) == 4 and {*campaign.labels()["how"].to_pylist()} == {"discovered"}  # 8 // 2
    campaign.run("rankings", "ranking", key="task_diversity")
    first = campaign.graph.store.read_table("ranking", "task_diversity").table.slice(0, 4)
    assert len({*first["task"].to_pylist()}) == 4

    campaign.write(("budgets: [8]", "budgets: [4, 8, 100]"))  # the rule would now look for two tasks
    assert (campaign.status(), campaign.identity()) == ("fresh", identity)
    campaign.write(("{from: discovered}", "{from: discovered, tasks: 3}"))
    assert campaign.status() == "stale"
    campaign.run("pool", "raw_pool", "task_labels")
    assert len({*campaign.tasks().values()}) == 3


@pytest.mark.full
def test_labels_with_the_same_identity_are_kept_when_the_contract_grows(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract of an older version lacks one rule. The stored table is checked again, but its tasks are not found again."""
    campaign.run("pool", "raw_pool", "task_labels")
    tasks = campaign.tasks()
    stored = campaign.graph.store.read_table("task_labels")
    campaign.graph.store.write_table(stored.table, replace(stored.footer, rules=stored.footer.rules[:-1]))

    def newer(*_: object) -> labelling.Labelled:
        raise AssertionError("the stored tasks were found again")

    monkeypatch.setattr(labelling, "by_texts", newer)
    campaign.run("pool", "task_labels")
    assert campaign.tasks() == tasks


@pytest.mark.full  # the fast tests check the rules by themselves
def test_few_prompts_a_task_and_many_picks_are_warned_of(campaign: Campaign) -> None:
    campaign.write(("csv,", "csv, limit: 60,"), ("{from: discovered}", "{from: discovered, tasks: 4}"), ("[8]", "[40]"))
    found = warned(campaign.run("pool", "raw_pool", "task_labels"))
    assert found == {"found_tasks_have_prompts", "found_tasks_are_enough"}
    checked = {one.unit.asset: one for one in check_stored(campaign.graph.experiment, campaign.graph.store)}
    assert {rule.rule for rule in checked["task_labels"].failed} == found


@pytest.mark.full
def test_items_are_held_out_of_the_whole_pool_and_stay_when_other_tasks_are_wanted(campaign: Campaign) -> None:
    held = ("budgets: [8]", "budgets: [8]\nbenchmarks: [{name: held_out, share: 0.1}]")
    campaign.write(held)
    campaign.run("pool", "raw_pool", "task_labels")
    pool = campaign.graph.lineage().expect(Unit("raw_pool")).identity
    assert campaign.labels().num_rows == 160 - 8  # a tenth of the 80 answered prompts
    for source in ("{from: discovered, tasks: 3}", "{from: rules, rules: [{task: a, keywords: [poem]}]}"):
        campaign.write(held, ("{from: discovered}", source))
        assert campaign.graph.lineage().expect(Unit("raw_pool")).identity == pool
    tasks, path = campaign.tasks(), campaign.home.folder / "held.csv"
    campaign.write(held)
    assert (
        "8 held-out prompts are not in the file"
        in campaign.home.say("tasks", "export", "found.yaml", "-o", path.name).stderr
    )
    campaign.write(held, ("{from: discovered}", f"{{from: mapping, path: {path.name}}}"))
    campaign.run("pool", "raw_pool", "task_labels")
    assert campaign.tasks() == tasks, "the same prompts are held out, so the file names exactly the others"


def test_tasks_go_out_as_a_file_and_come_back_renamed_and_merged(campaign: Campaign) -> None:
    say = campaign.home.say
    campaign.graph.store.remove("tables", "task_labels.parquet")
    assert (
        "have no tasks yet; run `taskdiv run found --until task_labels` first"
        in say("tasks", "show", "found.yaml").stderr
    )
    campaign.run("pool", "raw_pool", "task_labels")
    shown = say("tasks", "show", "found.yaml")
    assert shown.returncode == 0, shown.stderr
    assert "central prompts" in shown.stdout and "How do I reset my" in shown.stdout
    assert "found: 4 tasks by their words; under another seed, 0% of the prompts" in shown.stdout
    before, _, after = shown.stdout.partition("found: ")
    assert len(before.splitlines()) == 4 * 4 and "taskdiv tasks export found.yaml --out tasks.csv" in after
    assert say("tasks", "export", "found.yaml", "--out", "tasks.csv").returncode == 0
    assert "already exists" in say("tasks", "export", "found.yaml", "--out", "tasks.csv").stderr

    path, tasks = campaign.home.folder / "tasks.csv", campaign.tasks()
    rows = [*csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))]
    assert {row["prompt_id"].lstrip("'"): row["task"] for row in rows} == tasks
    assert [*rows[0]] == ["prompt_id", "task", "prompt"]
    names = sorted({*tasks.values()})
    new = {names[0]: "merged", names[1]: "merged", names[2]: "=renamed", names[3]: names[3]}
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows({**row, "task": new[row["task"]]} for row in rows)
    campaign.write(("{from: discovered}", "{from: mapping, path: tasks.csv}"))
    campaign.run("pool", "raw_pool", "task_labels")
    assert campaign.tasks() == {one: new[task] for one, task in tasks.items()}
    assert say("tasks", "export", "found.yaml", "--out", "again.csv").returncode == 0
    assert "'=renamed" in (campaign.home.folder / "again.csv").read_text("utf-8-sig")
    again = labels.from_mapping(
        campaign.graph.store.read_table("raw_pool").table,
        TaskLabels.model_validate({"from": "mapping", "path": str(campaign.home.folder / "again.csv")}),
    )
    assert again["task"].to_pylist() == campaign.labels()["task"].to_pylist()
    assert "terms" not in say("tasks", "show", "found.yaml").stdout


def test_strategies_by_task_say_what_discovered_would_do(campaign: Campaign) -> None:
    campaign.write(("task_labels: {from: discovered}\n", ""))
    said = campaign.home.say("plan", "found.yaml").stderr
    assert (
        "add `task_labels: {from: discovered}`, which groups prompts of similar wording and takes each group as a task"
        in " ".join(said.split())
    )
