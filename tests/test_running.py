"""The output, decisions and errors of `run` and `plan`: pure functions, and the commands over a small campaign."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from data_contracts.footer import Footer, RuleResult
from taskdiv_assets import cli
from taskdiv_assets.commands import consoles, contract_warnings
from taskdiv_assets.commands.next_steps import Standing, next_lines
from taskdiv_assets.commands.running import trainable
from taskdiv_assets.commands.terminal import waiting_lines
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit
from tests.home import Home
from tests.interrupted import ENDS_WITHIN_S, stop

pytestmark = pytest.mark.xdist_group("running")
NEW = Standing(True, False, None, 0, None, 0, 0, 0, False)
LISTED = NEW._replace(is_listed=True)
RANDOM = Cell(20, "random")


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (NEW, ["next: taskdiv run mine"]),
        (LISTED._replace(to_send=RANDOM, to_send_n=20),
         ["next: taskdiv annotations export mine --budget 20 --strategy random   (20 prompts to send out)"]),
        (LISTED._replace(to_send=RANDOM, to_send_n=20, seed=3),
         ["next: taskdiv annotations export mine --budget 20 --strategy random --seed 3   (20 prompts to send out)"]),
        (LISTED._replace(out_n=20),
         ["next: taskdiv annotations import mine FILE   (waiting for 20 answers)"]),
        (LISTED._replace(out_n=5, answered_n=15),
         ["next: taskdiv annotations import mine FILE   (waiting for 5 of 20 answers)"]),
        (LISTED._replace(out_n=5, answered_n=15, ready_n=1),
         ["next: taskdiv run mine   (1 cell has its answers)",
          "then: taskdiv annotations import mine FILE   (waiting for 5 of 20 answers)"]),
        (LISTED._replace(answered_n=20), ["next: taskdiv run mine"]),
        (LISTED._replace(answered_n=20, is_done=True),
         ["next: taskdiv budget add mine N   (to buy more; all answers are in)"]),
        (NEW._replace(is_campaign=False), ["next: taskdiv run mine"]),
        (NEW._replace(is_campaign=False, is_done=True), []),
    ],
)  # fmt: skip
def test_the_next_step_fits_where_the_experiment_is(standing: Standing, said: list[str]) -> None:
    assert next_lines("mine", "", standing) == said


def test_the_next_step_keeps_the_part_that_was_asked_for() -> None:
    wanted = Filter((20, 50), ("random",))
    assert next_lines("mine", wanted.options, NEW) == [
        "next: taskdiv run mine --budget 20 --budget 50 --strategy random"
    ]


def test_cells_that_wait_have_a_line_each_or_one_together() -> None:
    assert waiting_lines({}) == []
    assert waiting_lines({Cell(512, "random"): 312, Cell(1, "random"): 1}) == [
        "512|random waits for 312 answers",
        "1|random waits for 1 answer",
    ]
    many = {Cell(n, "random"): n for n in range(3, 43)}
    assert waiting_lines(many, "too few") == [
        "40 cells wait for answers, 3 to 42 each",
        "cells with all their answers wait for a learning rate: too few",
    ]


def test_only_cells_with_all_their_answers_are_trained_and_the_base_with_the_first_of_them() -> None:
    missing = [
        Unit("raw_pool"), Unit("base_scores"), Unit("allocation", "2|random"), Unit("adapter", "2|random"),
        Unit("adapter", "4|random"), Unit("benchmark_scores", "4|random"), Unit("strategy_report"),
    ]  # fmt: skip
    report = Unit("strategy_report")
    assert trainable(missing, [], is_waiting=True) == [report]
    ready = [Unit("base_scores"), Unit("adapter", "2|random"), report]
    assert trainable(missing, [Cell(2, "random")], is_waiting=True) == ready
    assert trainable(missing, [], is_waiting=False) == [Unit("base_scores"), report]


def footer(unit: Unit, **failed: str) -> Footer:
    rules = tuple(
        RuleResult(name, severity, passed=False, observed="3 rows\nfail\x1b[31m", description="It is so.")
        for name, severity in failed.items()
    )
    return Footer(unit.asset, unit.key, "", {}, 1, None, "", "", 0.0, rules=rules)


def test_warnings_of_stored_tables_are_a_line_each_and_alike_ones_are_joined() -> None:
    footers = [footer(Unit("raw_pool"), prompt_unique="warning", prompt_id_unique="error")]
    footers += [footer(Unit("allocation", f"{n}|random"), bought="warning") for n in range(1, 41)]
    found = [one for made in footers for one in contract_warnings.of_rules(Unit(made.asset, made.key), made.rules)]
    assert contract_warnings.warning_lines(found) == [
        "warning: raw_pool: prompt_unique: 3 rows fail[31m (It is so)",
        "warning: allocation/1|random: bought: 3 rows fail[31m (It is so)",
        "warning: allocation/2|random: bought: 3 rows fail[31m (It is so)",
        "warning: allocation: bought: and 38 more cells",
    ]


# --- the commands, over a campaign without base model -----------------------------------------------------------------------


EXPERIMENT = """
name: mine
pool: {reader: table, path: questions.csv, columns: {prompt: question, id: ticket}}
strategies: [random]
budgets: [4, 8]
"""


@pytest.fixture
def campaign(empty_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Yield a home with a file of 30 questions, three of them twice, and a campaign over the file. Nothing is stored."""
    with (empty_home.folder / "questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "question"])
        writer.writerows([f"T-{number}", f"What is {number % 27}?"] for number in range(30))
    (empty_home.folder / "mine.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(empty_home.folder)
    yield empty_home


def taskdiv(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """Run a command in this process, and return its exit code and output."""
    for name in ("console", "out"):
        for module in (cli, consoles):
            monkeypatch.setattr(module, name, Console(width=200, soft_wrap=True, highlight=False))
    result: Result = CliRunner().invoke(cli.app, arguments)
    return result.exit_code, result.output


def listing(home: Home) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.folder.rglob("*")) if path.is_file()}


def change(home: Home, *changes: tuple[str, str]) -> None:
    text = EXPERIMENT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (home.folder / "mine.yaml").write_text(text)


def test_plan_stores_nothing_and_says_what_a_run_would_warn_of(campaign: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listing(campaign), sorted(campaign.folder.rglob("*"))
    code, said = taskdiv(monkeypatch, "plan", "mine.yaml", "--budget", "4", "--strategy", "random")
    assert code == 0, said
    assert (listing(campaign), sorted(campaign.folder.rglob("*"))) == before
    assert "warning: raw_pool: no_copies_dropped: observed 3" in said
    assert "pool: 27 prompts; to score: 0" in said and "cells: 0 done, 1 missing" in said
    assert "train" not in said and "disk" not in said and "tasks_differ" not in said
    assert said.strip().splitlines()[-1] == "next: taskdiv run mine.yaml --budget 4 --strategy random"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ((("questions.csv", "other.csv"),), "there is no file"),
        ((("prompt: question", "prompt: text"),), "has no column 'text'"),
        ((("id: ticket", "id: question"),), "'What is 0?'"),
        ((("[4, 8]", "[4, 99]"),), "budget 99 is larger than the pool of mine, 27 prompts; expected at most 27"),
        ((("id: ticket", "task: ticket"), ("[random]", "[random]\ntask_labels: {from: mapping, path: no.csv}")), "no.csv"),
        ((("[random]", "[random]\nbase_model: {path: nowhere}"),), "there is no such folder"),
        ((("[random]", "[random]\nbase_model: {path: .}\nbenchmarks: [{name: own, folder: nowhere, tasks: [a], metrics: [acc]}]"),),
         "nowhere"),
    ],
    ids=["pool", "column", "id", "budget", "mapping", "model", "benchmark"],
)  # fmt: skip
def test_plan_finds_what_a_run_would_stumble_over_and_stores_nothing(
    campaign: Home, monkeypatch: pytest.MonkeyPatch, changed: tuple[tuple[str, str], ...], said: str
) -> None:
    change(campaign, *changed)
    before = sorted(campaign.folder.rglob("*"))
    code, output = taskdiv(monkeypatch, "plan", "mine.yaml")
    assert code == 2 and said in output and "error: " in output and "next:" not in output, output
    assert sorted(campaign.folder.rglob("*")) == before


def test_plan_names_every_problem_at_once(campaign: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    change(campaign, ("[4, 8]", "[99]"), ("[random]", "[random]\nbase_model: {path: nowhere}"))
    code, output = taskdiv(monkeypatch, "plan", "mine.yaml")
    assert code == 2 and output.count("error: ") == 2


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_budget_that_is_not_registered_is_refused_and_nothing_is_written(
    campaign: Home, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    before = sorted(campaign.folder.rglob("*"))
    code, said = taskdiv(monkeypatch, command, "mine.yaml", "--strategy", "random", "--budget", "7")
    assert code == 2
    assert (
        "7 is not a budget of mine; it has 4, 8. `taskdiv budget add mine.yaml 7` adds it, for every strategy" in said
    )
    assert sorted(campaign.folder.rglob("*")) == before


STARTED_TOGETHER = """
import os, sys
import dagster
from taskdiv_assets.orchestration import instance

begin, go = os.pipe()
children = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.read(begin, 1)  # all go when the pipe is closed
        with instance.open_instance(2) as opened:
            opened.add_dynamic_partitions("own_budget", ["7"])
        os._exit(0)
    children.append(pid)
os.close(go)
sys.exit(any(os.waitpid(pid, 0)[1] for pid in children))
"""


@pytest.mark.full
def test_processes_that_start_an_empty_home_at_once_do_not_collide(empty_home: Home) -> None:
    found = subprocess.run(
        [sys.executable, "-c", STARTED_TOGETHER], capture_output=True, text=True, cwd=empty_home.folder
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.full
def test_a_campaign_is_interrupted_resumed_listed_and_says_what_it_waits_for(
    campaign: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers run, one of them idle, because there is one task at first. Other moments are in tests/full."""
    stopped = stop(campaign, ("run", "mine.yaml", "--workers", "2"), 0.3, is_group=True)
    assert stopped is not None and stopped.code == 130, stopped
    assert not stopped.left and stopped.wall_s < ENDS_WITHIN_S, stopped
    assert "continues where it stopped" in stopped.output and "Traceback" not in stopped.output, stopped
    done = campaign.taskdiv("run", "mine.yaml", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "4|random waits for 4 answers" in done.stderr and "8|random waits for 8 answers" in done.stderr
    assert done.stderr.count("warning: raw_pool: no_copies_dropped: observed 3") == 1
    report, step = done.stdout.strip().splitlines()[-2:]
    assert report.startswith("report: ") and Path(report.removeprefix("report: ")).is_file()
    export = "annotations export mine --budget 4 --strategy random"
    assert step == f"next: taskdiv {export}   (4 prompts to send out)"
    os.environ.pop("TASKDIV_EXECUTOR", None)
    code, said = taskdiv(monkeypatch, "plan", "mine")
    assert code == 0 and "2 done, 0 missing" in said and step in said
    code, said = taskdiv(monkeypatch, *export.split(), "-o", "list.jsonl")
    assert code == 0, said
    assert said.count("warning: raw_pool: no_copies_dropped") <= 1
    code, said = taskdiv(monkeypatch, "plan", "mine", "--budget", "4")
    assert "next: taskdiv annotations import mine FILE   (waiting for 4 answers)" in said
