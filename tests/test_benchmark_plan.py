"""The expected cost of benchmarks and a judge, before any run, and the settings that identities depend on."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from data_contracts.footer import Footer
from reports.power import Design, detectable_with
from taskdiv_assets.benchmarks.alpaca.prompts import Pair
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict, key_of
from taskdiv_assets.commands import power_plan
from taskdiv_assets.commands.benchmark_plan import BenchmarkPlan, benchmark_plans
from taskdiv_assets.commands.planning import plan
from taskdiv_assets.commands.terminal import RunDisplay, print_plan
from taskdiv_assets.commands.workers import Event
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark, Judge
from taskdiv_assets.graph import scoring_plan
from taskdiv_assets.graph.models import BATCHING, READING, Models
from taskdiv_assets.graph.scoring_plan import ScoringPlan
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.services.judge_batches import known_verdicts, put_verdicts
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE, Home
from tests.reports.make_results import Recipe, make_results

JUDGE = "judge: {model: judge-1, calls: 3000, price: 0.01}"
ALPACA = f"{{name: alpaca_eval, {JUDGE}}}"


def experiment_with(*benchmarks: str, more: str = "") -> Experiment:
    """Return the miniature with other benchmarks."""
    dropped = ("benchmarks:", "primary:", *([more.partition(":")[0] + ":"] if more else []))
    lines = [line for line in MINIATURE.read_text().splitlines() if not line.startswith(dropped)]
    lines += [f"benchmarks: [{{name: lab}}, {', '.join(benchmarks)}]", more]
    lines.append("primary: {strategy: facility_location, benchmark: lab, metric: exact_match}")
    return experiments.parse("\n".join(lines), str(MINIATURE))


def planned(store: Store, *benchmarks: str, models_n: int = 3) -> BenchmarkPlan:
    """Return the plan of the last benchmark."""
    return benchmark_plans(experiment_with(*benchmarks), store, models_n)[-1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("miniature", str(tmp_path))


def test_the_hub_is_planned_without_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a plan went to the network"))
    experiment = experiment_with("{name: mmlu}", "{name: bbh}", "{name: arc_easy, metrics: [acc]}", ALPACA)
    plans = {one.name: one for one in benchmark_plans(experiment, store, 3)}
    assert (plans["mmlu"].asked_n, plans["bbh"].asked_n, plans["alpaca_eval"].asked_n) == (14_042, 6_511, 805)
    assert plans["arc_easy"].asked_n is None
    assert plan(experiment, store).benchmarks[0].name == "lab"


def test_a_sample_is_planned_with_its_standard_error_and_too_small_a_one_with_its_name(store: Store) -> None:
    sampled = planned(store, "{name: mmlu, sample: 1140}")
    assert sampled.asked_n == 1140 and 0.013 < sampled.sampling_error < 0.5 / 1140**0.5
    with pytest.raises(ValueError, match=r"benchmark `mmlu`: `sample: 3` is too small for 57 tasks"):
        planned(store, "{name: mmlu, sample: 3}")


def test_a_folder_of_tasks_that_is_not_there_is_told_by_the_plan(store: Store) -> None:
    with pytest.raises(ValueError, match=r"`folder` .*nowhere' of a benchmark"):
        planned(store, "{name: ours, folder: nowhere, metrics: [acc]}")


def test_calls_are_counted_with_what_was_asked_before(store: Store) -> None:
    first = planned(store, ALPACA)
    assert (first.calls_n, first.calls_left_n) == (3 * 805, 3000) and first.cost == pytest.approx(24.15)
    pair = Pair("instruction", "reference", "model")
    put_verdicts(store, Judge(model="judge-1", calls=1), [Verdict(key_of(pair), "judged", 1.0, "m", "", 4)])
    assert planned(store, ALPACA).calls_left_n == 2996
    assert planned(store, "{name: alpaca_eval}").is_skipped


def test_a_judge_with_brackets_in_its_name_is_shown_as_it_is(store: Store) -> None:
    name = "lab/judge[v1][/x]"
    experiment = experiment_with(f'{{name: alpaca_eval, judge: {{model: "{name}", calls: 5}}}}')
    for is_terminal in (False, True):
        console = Console(file=io.StringIO(), width=400, force_terminal=is_terminal)
        print_plan(console, experiment, plan(experiment, store))
        assert isinstance(console.file, io.StringIO) and f"judge {name}: at most" in console.file.getvalue()
        with RunDisplay(console, "miniature") as display:
            display.tell(Event("progress", f"judging by {name}", 1, 3, also=name))
            assert display.progress.tasks[-1].description.count("x]") == 2
            display.progress.refresh()
        assert not is_terminal or f"judging by {name}" in console.file.getvalue()


def test_more_than_the_calls_allow_is_said_with_what_happens(store: Store) -> None:
    console = Console(file=io.StringIO(), width=400)
    experiment = experiment_with(ALPACA.replace("3000", "5"))
    print_plan(console, experiment, plan(experiment, store))
    assert isinstance(console.file, io.StringIO)
    assert "5 allowed; cells that would exceed them are refused before they ask" in (console.file.getvalue())


def scoring(experiment: Experiment) -> ScoringPlan:
    """Return the scoring plan over a base that does not exist yet."""

    def never(unit: Unit) -> Footer:
        raise AssertionError(f"{unit} is not needed")

    models = Models(experiment, lambda unit: None, never)
    return ScoringPlan(experiment, models, lambda: never(Unit("held_out_items")))


def identities_of(benchmark: str, more: str = "") -> tuple[str, str]:
    """Return the identities of outputs and of scores on AlpacaEval."""
    experiment = experiment_with(benchmark, more=more)
    found, chosen = scoring(experiment), experiment.benchmarks[-1]
    assert isinstance(chosen, AlpacaEvalBenchmark)
    return found.outputs("adapter", chosen), found.scores("adapter", chosen)


def test_what_a_judgement_costs_changes_no_identity() -> None:
    outputs, scores = identities_of(ALPACA)
    cheap = ALPACA.replace("calls: 3000, price: 0.01", "calls: 9, price: 2, parallel: 3")
    assert identities_of(cheap) == (outputs, scores)


def test_the_gap_that_a_base_counts_marks_benchmarks_whose_answers_are_written() -> None:
    experiment = experiment_with("{name: mmlu}", "{name: bbh}", "{name: arc_easy, metrics: [acc]}", ALPACA)
    plain, counting = scoring(experiment), scoring(experiment)
    notes = {BATCHING: {"gap": True, "left": False, "right": False, "switches": []}}
    base: Any = SimpleNamespace(notes=notes | {READING: {}})
    counting.models._footer = lambda unit: base
    changed = [one.name for one in experiment.benchmarks if plain.settings_of(one) != counting.settings_of(one)]
    assert changed == ["bbh", "arc_easy", "alpaca_eval"], "beginnings of likelihoods have no gap after them"


def test_instructions_are_read_once_for_all_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, reads = experiment_with(ALPACA), []
    monkeypatch.setattr(scoring_plan, "holds", lambda benchmark, names: bool(reads.append(benchmark)))
    found, chosen = scoring(experiment), experiment.benchmarks[-1]
    base: Any = SimpleNamespace(notes={READING: {"control": ["</s>"]}})
    found.models._footer = lambda unit: base
    assert isinstance(chosen, AlpacaEvalBenchmark)
    assert len({found.outputs(adapter, chosen) for adapter in "abc"} | {found.scores("a", chosen)}) == 4
    assert reads == [chosen]


def test_whoever_judges_judges_the_same_outputs() -> None:
    outputs, scores = identities_of(ALPACA)
    judges = [
        JUDGE.replace("judge-1", "judge-2"),
        JUDGE.replace("model", "weighted: true, model"),
        "judge: {annotator: p}",
    ]
    found = [identities_of(ALPACA.replace(JUDGE, judge)) for judge in judges]
    assert {one for one, _ in found} == {outputs}
    assert len({scores, *(one for _, one in found)}) == 4


def test_what_is_asked_and_how_changes_the_outputs() -> None:
    asked = [ALPACA.replace("eval,", f"eval, {more},") for more in ("limit: 9", "sample: 9", "max_new_tokens: 9")]
    found = [identities_of(one) for one in (ALPACA, *asked)]
    found.append(identities_of(ALPACA, more='prompt_template: "{prompt} ->"'))
    assert len(set(found)) == len({outputs for outputs, _ in found}) == 5


def test_a_chat_template_is_another_way_of_asking() -> None:
    experiment = experiment_with(ALPACA)
    chats = experiment.model_copy(update={"chat_template": True})
    benchmark = experiment.benchmarks[-1]
    assert scoring(experiment).scores("a", benchmark) != scoring(chats).scores("a", benchmark)


def test_an_import_makes_nothing_stale(store: Store) -> None:
    imported = ALPACA.replace(JUDGE, "judge: {annotator: p}")
    before = identities_of(imported)
    verdict = Verdict(key_of(Pair("instruction", "reference", "model")), "judged", 1.0, "", "", 0)
    judge = Judge(annotator="p")
    put_verdicts(store, judge, [verdict])
    assert identities_of(imported) == before
    (part,) = Path(store.path("verdicts")).rglob("*.parquet")
    part.with_name(f"{part.name}.0123.tmp").write_bytes(b"a kill")
    assert len(known_verdicts(store, judge).verdicts) == 1


def annotation(reference: str) -> dict[str, object]:
    texts = {"instruction": "i", "output_1": "r", "output_2": "o"}
    return {**texts, "generator_1": reference, "generator_2": "ours", "annotator": "p", "preference": 2}


@pytest.mark.parametrize("generators", [(), ("one", "two")])
def test_a_source_that_names_no_single_reference_takes_imports_by_their_texts(
    tmp_path: Path, generators: tuple[str, ...]
) -> None:
    home = Home(tmp_path)
    rows = [{"instruction": f"{n}", "output": "r"} for n in range(2)]
    rows = [{**row, **({"generator": generators[n]} if generators else {})} for n, row in enumerate(rows)]
    (tmp_path / "source.json").write_text(json.dumps(rows))
    (tmp_path / "annotations.json").write_text(json.dumps([annotation("text_davinci_003")]))
    section = f"- {{name: alpaca_eval, source: {tmp_path}/source.json, judge: {{annotator: p}}}}"
    text = MINIATURE.read_text()
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("benchmarks:"))
    kept = kept.replace("name: miniature", "name: imported")
    (tmp_path / "imported.yaml").write_text(f"{kept}\nbenchmarks:\n- {{name: lab}}\n{section}\n")
    result = home.say("verdicts", "import", "imported.yaml", "annotations.json")
    assert "imported: 1 verdicts of p" in result.stdout, result.stderr


class TestWhatCanBeShown:
    """The detectable difference before any score."""

    def test_it_follows_from_seeds_and_items(self, store: Store) -> None:
        experiment = experiment_with()
        plans = benchmark_plans(experiment, store, 3)
        [first, advice] = power_plan.lines(experiment, plans, "", None)
        assert re.fullmatch(
            r"to be shown with 2 seeds and \d+ items of lab: (a difference of about 0\.\d{3} or more on average over the budgets|no difference that scores can have), "
            r"in 80% of such runs, by the variance of the demo",
            first,
        )
        assert "--variance-of" in advice
        ten = experiment.model_copy(update={"seeds": list(range(10))})
        least = float(re.findall(r"0\.\d+", power_plan.lines(ten, plans, "", None)[0])[0])
        assert least < 0.2
        needed = power_plan.lines(ten, plans, "", 0.02)[-1]
        assert re.match(r"a difference of 0\.02 needs [\d,]+ seeds with \d+ items; with 10 seeds: [\d,]+ items", needed)

    def test_one_budget_has_more_noise_than_a_curve(self, store: Store) -> None:
        ten = experiment_with().model_copy(update={"seeds": list(range(10))})
        plans = benchmark_plans(ten, store, 3)
        curve, single = (
            power_plan.lines(one, plans, "", None)[0]
            for one in (ten, ten.model_copy(update={"budgets": ten.budgets[:1]}))
        )
        assert "on average over the budgets" in curve and "at one budget" in single
        first, second = (float(re.findall(r"about (0\.\d+)", said)[0]) for said in (curve, single))
        assert first < second

    def test_one_seed_shows_nothing_and_one_strategy_compares_nothing(self, store: Store) -> None:
        experiment = experiment_with()
        plans = benchmark_plans(experiment, store, 3)
        [said] = power_plan.lines(experiment.model_copy(update={"seeds": [0]}), plans, "", None)
        assert said.startswith("to be shown: no difference; `seeds` has one seed")
        assert power_plan.lines(experiment.model_copy(update={"strategies": ["random"]}), plans, "", None) == []
        assert power_plan.lines(experiment, (), "", None) == []

    def test_the_variance_of_another_experiment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TASKDIV_HOME", str(tmp_path))
        make_results(tmp_path, Recipe(name="other", seeds=(0, 1, 2, 3, 4), items_per_task=10))
        experiment, store = experiment_with(), Store("miniature", str(tmp_path))
        plans = benchmark_plans(experiment, store, 3)
        [said] = power_plan.lines(experiment, plans, "other", None)
        assert said.endswith("by the variance of other")
        with pytest.raises(ValueError, match="--variance-of nobody: no such experiment is stored"):
            power_plan.lines(experiment, plans, "nobody", None)
        make_results(tmp_path, Recipe(name="single", seeds=(0,), items_per_task=2))
        with pytest.raises(ValueError, match="not scored with two or more common seeds"):
            power_plan.lines(experiment, plans, "single", None)

    def test_the_demos_variance_gives_the_demos_numbers(self) -> None:
        """The five-seed line of docs/STATISTICS.md has 0.042 for the lab's noise at one budget; an area has less noise."""
        design = Design(*power_plan.DEMO)
        assert detectable_with(design, 3, 960) == pytest.approx(0.063, abs=0.001)
        assert 0.02 < detectable_with(design, 5, 960) < 0.042
