"""Rounds in the graph: what a round trains and scores, kills, `taskdiv round next`, and a campaign of two rounds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data_contracts
from taskdiv_assets.assets import REGISTRY, round_confidence
from taskdiv_assets.assets.round_confidence import all_rounds
from taskdiv_assets.benchmarks.adapters import loaded_adapters
from taskdiv_assets.commands import planning, running
from taskdiv_assets.commands.round_commands import Next, next_round, record
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.services import scoring, training
from taskdiv_assets.storage.store import Store
from tests.graph import Graph, make_unit
from tests.home import MINIATURE, Home
from tests.test_campaign_graph import Campaign, campaign, chosen, models, order
from tests.test_rounds import TEXT, WEIGHTED, parsed

assert campaign and models  # fixtures
pytestmark = pytest.mark.xdist_group("rounds_graph")
TABLE, RANKING = Unit("round_confidence"), Unit("ranking", "in_rounds")


class KilledError(BaseException):
    """A kill in the middle of a step."""


@pytest.fixture(scope="module")
def own(miniature: Home) -> Iterator[Store]:
    """Return the store of the finished miniature, in which the tests of this module make rounds."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in miniature.variables().items():
            patch.setenv(name, value)
        yield Store("miniature")


def work_of(experiment: Experiment, store: Store, unit: Unit) -> Work:
    lineage = REGISTRY.look(experiment, store)
    return Work(experiment, store, lineage, unit, lineage.expect(unit), str)


@pytest.fixture(scope="module")
def made(own: Store) -> dict[str, Any]:
    """Make the rounds of both seeds, killed before each step of the first round. Return what was trained and scored."""
    seen: dict[str, list[Any]] = {"trained": [], "scored": [], "killed": []}
    train, put = training.train, scoring.PromptScores._put
    steps = ("stored_or_trained", "_scored", "rounds", "confidence", "task_means", "refuse_small_means")

    def trained(work: Work, plan: Any, *more: Any) -> Any:
        seen["trained"].append((plan.training_seed, len(plan.prompt_ids)))
        return train(work, plan, *more)

    def stored(self: scoring.PromptScores, waiting: list[Any]) -> None:
        seen["scored"].append(sum(map(len, waiting)))
        put(self, waiting)

    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", trained)
        patch.setattr(scoring.PromptScores, "_put", stored)
        for step in steps:
            with patch.context() as once, pytest.raises(KilledError):
                once.setattr(round_confidence, step, killed)
                make_unit(parsed(TEXT), own, TABLE)
            seen["killed"].append(step)
        for unit in (TABLE, RANKING):
            make_unit(parsed(TEXT), own, unit)
    return seen


def test_a_round_trains_what_no_cell_has_trained_and_a_kill_repeats_no_step(made: dict[str, Any], own: Store) -> None:
    assert len(made["killed"]) == 6
    assert sorted(made["trained"]) == [
        (0, 24),
        (1, 24),
    ]  # the adapters of the first 12 prompts are those of the one-shot cell
    pool_n = own.read_table("raw_pool").table.num_rows
    assert sum(made["scored"]) == 2 * (pool_n - 12) + 2 * (pool_n - 24)
    assert REGISTRY.look(parsed(TEXT), own).is_fresh(TABLE)


def test_the_means_are_those_of_the_adapter_on_what_is_not_bought(made: dict[str, Any], own: Store) -> None:
    from taskdiv_assets.language_model.confidence import score

    work = work_of(parsed(TEXT), own, TABLE)
    one = next(one for one in all_rounds(work.lineage) if (one.selection_seed, one.after_n) == (1, 24))
    pool, labels = work.read("raw_pool").to_pylist(), work.read("task_labels").to_pylist()
    assert one.plan.prompt_ids.to_pylist() == [pool[row]["prompt_id"] for row in one.bought]
    left = [row for row in range(len(pool)) if row not in set(one.bought)]
    lm = scoring.load_base(work)
    with loaded_adapters(lm, {1: Path(own.path("folders", one.plan.identity))}) as activate:
        activate(1)
        found = score(lm, work.render([pool[row]["prompt"] for row in left]), max_new_tokens=6).columns[
            "mean_probability"
        ]
    table = [
        row
        for row in work.store.read_table(*TABLE).table.to_pylist()
        if (row["selection_seed"], row["after_n"]) == (1, 24)
    ]
    by_task = {task: [p for row, p in zip(left, found, strict=True) if labels[row]["task"] == task] for task in
               {row["task"] for row in labels}}  # fmt: skip
    assert {row["task"]: row["left_n"] for row in table} == {
        task: len(values) for task, values in by_task.items() if values
    }
    for row in table:
        assert row["mean_confidence"] == pytest.approx(np.mean(by_task[row["task"]]), rel=1e-6)
        assert row["adapter"] == one.plan.identity


def test_the_table_meets_its_contract_and_the_order_keeps_what_is_bought(made: dict[str, Any], own: Store) -> None:
    work = work_of(parsed(TEXT), own, TABLE)
    parameters = REGISTRY["round_confidence"].parameters
    assert parameters is not None
    found = data_contracts.validate(
        data_contracts.load("round_confidence"), own.read_table(*TABLE).table, parameters(work)
    )
    assert found.is_valid and not found.failed
    orders = [own.read_table("ranking", name).table.to_pandas() for name in (WEIGHTED.name, "in_rounds")]
    for seed in (0, 1):
        one_shot, rounds = (frame[frame["selection_seed"] == seed]["prompt_id"].tolist() for frame in orders)
        assert rounds[:12] == one_shot[:12] and rounds != one_shot and sorted(rounds) == sorted(one_shot)
    lines = planning.round_lines(parsed(TEXT), own)
    assert lines == ["rounds of in_rounds: the order is drawn again after 12 and after 24 labels: done"]
    (line,) = planning.round_lines(parsed(TEXT.replace("[12, 24]}", "[12, 20]}")), own)
    assert "missing; 4 adapters" in line and "prompts to score" in line


def test_the_identity_says_the_round_and_nothing_else_becomes_stale(made: dict[str, Any], own: Store) -> None:
    lineage = REGISTRY.look(parsed(TEXT), own)
    for unit in (Unit("ranking", WEIGHTED.name), Unit("adapter", f"24|{WEIGHTED.name}"), Unit("confidence_table")):
        assert lineage.is_fresh(unit), lineage.state(unit).reason
    inputs = lineage.expect(TABLE).inputs
    assert {"in_rounds/0/12", "in_rounds/0/24", "in_rounds/1/12", "in_rounds/1/24"} < inputs.keys()
    for old, new in (("[12, 24]}", "[12]}"), ("epochs: 1", "epochs: 2"), ("max_new_tokens: 6", "max_new_tokens: 5")):
        assert REGISTRY.look(parsed(TEXT.replace(old, new)), own).state(RANKING).status in ("stale", "blocked"), new


def test_next_records_the_round_once_also_after_a_kill(
    miniature: Home, own: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`taskdiv round next` twice, killed between its two writes the first time."""
    before = own.get("experiment.yaml")
    assert before is not None

    def killed(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(running, "register_budgets", killed)
        miniature.say("round", "next", "miniature", "--add", "6")
    assert not own.is_file("budgets", "30")
    said = miniature.say("round", "next", "miniature", "--add", "6")
    assert said.returncode == 0, said.stderr
    assert "round 2 of weighted_task_diversity: 24 labels are bought, 6 more make 30" in said.stdout
    text = (own.get("experiment.yaml") or b"").decode()
    assert parsed(text).rounds["weighted_task_diversity"].after == [24] and own.is_file("budgets", "30")
    # the user's file without the round is read again: the round stays
    path = miniature.write_experiment("miniature")
    miniature.say("plan", str(path))
    said = miniature.say("budget", "list", str(path))
    assert said.returncode == 0 and parsed((own.get("experiment.yaml") or b"").decode()).rounds, said.stderr
    own.remove("budgets", "30")
    own.put(before, "experiment.yaml")


def test_next_says_what_is_missing(miniature: Home, own: Store, empty_home: Home) -> None:
    said = miniature.say("round", "next", "miniature", "--add", "6", "--strategy", "random")
    assert said.returncode == 2 and "random does not share labels among tasks by confidence alone" in said.stderr
    said = miniature.say("round", "next", "miniature", "--add", "600")
    assert said.returncode == 2 and "budget 624 is larger than the pool of miniature" in said.stderr
    experiment = parsed(TEXT)
    with pytest.raises(ValueError, match="choose by --strategy: weighted_task_diversity, in_rounds"):
        next_round(experiment, own, 6, None)
    with pytest.raises(ValueError, match="no strategy of miniature shares labels"):
        next_round(parsed(MINIATURE.read_text().replace("strategies: [random, facility_location, weighted_task_diversity]",
                   "strategies: [random, dpp]").replace("strategy: weighted_task_diversity", "strategy: dpp")), own, 6, None)  # fmt: skip
    with pytest.raises(ValueError, match="names a round after 99 labels, and its largest budget is 24"):
        next_round(parsed(TEXT.replace("[12, 24]}", "[12, 99]}")), own, 6, "in_rounds")
    demo = experiment_file.load("demo")
    with pytest.raises(ValueError, match="demo is built in"):
        record(demo, own, Next("weighted_task_diversity", 512, 600, is_recorded=False))
    with pytest.raises(ValueError, match="the pool of demo has not been read yet"):
        next_round(demo, Store("demo", f"{empty_home.folder}/results"), 6, None)


# --- a campaign -----------------------------------------------------------------------------------------------------------

WEIGHED = ("[min_margin, random, k_center]", "[weighted_task_diversity]")
SMALL = ("budgets: [32, 64]", "budgets: [16]")
ALONE = ("primary: {strategy: min_margin, benchmark: bbh, metric: exact_match}\n", "")
ALL = (WEIGHED, SMALL, ALONE)
CELL = f"16|{WEIGHTED.name}"


def stored_graph(found: Campaign) -> Graph:
    """Return the graph over the stored copy of the experiment."""
    return Graph(Path(Store("camp").path("experiment.yaml")), found.instance)


def listed(graph: Graph, budget_n: int) -> None:
    """Bring the lists of one budget up to date."""
    needs = ["raw_pool", "annotations", "base_model", "task_labels", "confidence_table", "task_confidence"]
    units = [*map(Unit, needs), *([TABLE] if graph.experiment.rounds else []), Unit("ranking", WEIGHTED.name)]
    cell = f"{budget_n}|{WEIGHTED.name}"
    for unit in [*units, Unit("allocation", cell), Unit("annotation_batch", cell)]:
        make_unit(graph.experiment, graph.store, unit)


def first_round(found: Campaign) -> Graph:
    """Make, send and answer a list of 16 prompts, and return the graph over the stored copy."""
    graph = found.graph(*ALL)
    graph.store.put((found.home.folder / "camp.yaml").read_bytes(), "experiment.yaml")
    listed(graph, 16)
    sent = found.send_out(graph, 16, WEIGHTED.name)
    with pytest.raises(ValueError, match="16 of the 16 prompts of 16.weighted_task_diversity have no answer yet"):
        next_round(graph.experiment, graph.store, 8, None)
    found.answer(graph, sent)
    listed(stored_graph(found), 16)
    return stored_graph(found)


@pytest.mark.full
def test_a_campaign_of_two_rounds_sends_only_what_is_new_and_keeps_what_is_bought(campaign: Campaign) -> None:
    graph = first_round(campaign)
    one = next_round(graph.experiment, graph.store, 8, None)
    assert one == Next(WEIGHTED.name, 16, 24, is_recorded=False)
    bought = order(graph, WEIGHTED.name)[:16]
    record(graph.experiment, graph.store, one)
    graph = stored_graph(campaign)
    assert graph.experiment.keeps_annotated and not graph.experiment.keep_annotated
    listed(graph, 24)
    assert order(graph, WEIGHTED.name)[:16] == bought
    new = campaign.send_out(graph, 24, WEIGHTED.name)
    assert len(new) == 8 and not new & {*bought} and new | {*bought} == chosen(graph, 24, WEIGHTED.name)
    assert one.is_recorded is False and next_round(graph.experiment, graph.store, 8, None).is_recorded
    # an answer of the first round is corrected: its adapter changes, and no bought prompt leaves the list
    campaign.answer(graph, new)
    campaign.answer(graph, {bought[0]})
    listed(graph, 24)
    assert chosen(graph, 24, WEIGHTED.name) == new | {*bought}


@pytest.mark.full
def test_rounds_that_wait_for_answers_say_so(campaign: Campaign) -> None:
    graph = campaign.graph(*ALL, ("budgets: [16]", f"budgets: [16]\nrounds: {{{WEIGHTED.name}: {{after: [16]}}}}"))
    with pytest.raises(
        StaleInputError, match="16 of the 16 prompts that weighted_task_diversity buys before its next round"
    ):
        listed(graph, 16)


@pytest.mark.full
def test_a_kill_before_any_change_on_the_disk_leaves_a_round_that_the_same_command_finishes(
    campaign: Campaign, tmp_path: Path
) -> None:
    first_round(campaign)
    program = (
        "import shutil, sys, os\n"
        "from pathlib import Path\n"
        "import taskdiv_assets.orchestration.budget_list\n"  # imported before the fork: it takes longest
        "from tests.annotating.kill_at_every_step import run\n"
        "home, work = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "for step in range(1, 200):\n"
        "    folder = work / str(step)\n"
        "    shutil.copytree(home / 'results', folder / 'results')\n"
        "    status = run(folder, ['round', 'next', 'camp', '--add', '8'], step)\n"
        "    shutil.copytree(folder, work / f'{step}-killed')\n"
        "    if os.WIFEXITED(status): sys.exit(os.WEXITSTATUS(status))\n"
        "    code = os.WEXITSTATUS(run(folder, ['round', 'next', 'camp', '--add', '8'], None))\n"
        "    (folder / 'code').write_text(str(code))\n"
        "sys.exit('the command never came to its end')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(campaign.home.folder), str(tmp_path / "work")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True, text=True, timeout=420,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    states = set()
    for folder in (tmp_path / "work").glob("*-killed"):
        state = state_of(folder)
        states.add(state)
        done = folder.with_name(folder.name.removesuffix("-killed"))
        assert state_of(done) == ("[16]", True)
        if (done / "code").exists():  # a command after its end is another round, and its answers are not there
            assert (done / "code").read_text() == ("2" if state == ("[16]", True) else "0")
    assert {("none", False), ("[16]", False), ("[16]", True)} == states


def state_of(folder: Path) -> tuple[str, bool]:
    """Return the recorded round of a home, and whether its budget is registered."""
    text = (folder / "results/camp/experiment.yaml").read_text()
    rounds = experiment_file.parse(text, "camp.yaml").rounds
    return str(rounds[WEIGHTED.name].after) if rounds else "none", (folder / "results/camp/budgets/24").is_file()


@pytest.mark.full
def test_a_killed_process_leaves_a_round_that_the_next_one_finishes(own: Store, made: dict[str, Any]) -> None:
    """SIGKILL of a child before each step of a new round, as a run's worker process would be killed."""
    text = TEXT.replace("[12, 24]}", "[12, 18]}")
    for step in ("stored_or_trained", "_scored", "rounds", "task_means", "stored_means"):
        child = os.fork()
        if not child:
            setattr(round_confidence, step, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
            make_unit(parsed(text), own, TABLE)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, step
    make_unit(parsed(text), own, TABLE)
    assert REGISTRY.look(parsed(text), own).is_fresh(TABLE)
    make_unit(parsed(TEXT), own, TABLE)
