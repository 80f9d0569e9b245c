"""Variants of an experiment (`robustness`): settings, what each computes, what it uses of its experiment, and Dagster's view."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

import reports
from data_contracts.footer import Footer
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import planning, running
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.commands.workers import Outcome, Task, execute
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.experiment.experiment_file import ExperimentError
from taskdiv_assets.experiment.variants import derived, variants_of
from taskdiv_assets.graph import cells
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.tuning import DivergedError
from taskdiv_assets.orchestration import factory, instance
from taskdiv_assets.services import scoring, training
from taskdiv_assets.storage.store import Store
from tests.golden import copied, variables_of
from tests.graph import make_unit
from tests.home import MINIATURE, Home

pytestmark = pytest.mark.xdist_group("variants")
SECTION = """
robustness:
  half_rate: {tuning: {learning_rate: x0.5}}
  other_template: {prompt_template: "Q: {prompt} A:", budget: 12}
  first_token: {confidence: {column: first_probability}}
"""
TEXT = MINIATURE.read_text() + SECTION
CANDIDATES = ("learning_rate: 2.0e-3", "learning_rate: {choose: [1.0e-3, 4.0e-3]}")


def parsed(text: str = TEXT) -> Experiment:
    return experiment_file.parse(text, str(MINIATURE))


@pytest.fixture
def stored(miniature: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Return the store of the finished miniature, to which the tests of this module add variants."""
    for name, value in miniature.variables().items():
        monkeypatch.setenv(name, value)
    yield Store("miniature")


# --- settings ---------------------------------------------------------------------------------------------------------------


def test_a_variant_has_the_settings_of_its_experiment_except_its_own() -> None:
    experiment = parsed()
    half, template, first = variants_of(experiment)
    assert [one.name for one in variants_of(experiment)] == [
        "miniature_VARIANT_half_rate", "miniature_VARIANT_other_template", "miniature_VARIANT_first_token",
    ]  # fmt: skip
    assert half.tuning == experiment.tuning.at(1e-3) and half.confidence == experiment.confidence
    assert template.prompt_template == "Q: {prompt} A:" and template.tuning == experiment.tuning
    assert first.confidence == experiment.confidence.model_copy(update={"column": "first_probability"})
    for one in (half, template, first):
        assert one.variant is not None and one.variant.strategies == ("weighted_task_diversity", "random")
        assert one.command_name == "miniature" and one.selection_seeds == experiment.selection_seeds
    assert half.variant is not None and (half.variant.budget_n, half.variant.benchmark) == (24, "lab")
    assert template.variant is not None and template.variant.budget_n == 12


def test_the_default_comparison_is_that_of_the_report() -> None:
    text = "\n".join(line for line in TEXT.splitlines() if not line.startswith(("primary", "purpose: study")))
    one = derived(parsed(text.replace("learning_rate: x0.5", "epochs: 3").split("  other_template")[0]), "half_rate")
    assert one.variant is not None and one.variant.strategies == ("weighted_task_diversity", "random")
    assert one.variant.benchmark == "lab" and one.tuning.epochs == 3


def test_the_section_is_read_back_from_what_show_prints() -> None:
    from taskdiv_assets.commands.experiment_commands import as_yaml

    assert parsed(as_yaml(parsed())) == parsed()
    assert "robustness" not in parsed(MINIATURE.read_text()).model_dump()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Bad Name: {tuning: {epochs: 2}}", "expected lower-case letters, digits and _"),
        (f"{'n' * 31}: {{tuning: {{epochs: 2}}}}", "at most 30 characters"),
        ("a: {tunig: {epochs: 2}}", "unknown key; did you mean `tuning`?"),
        ("a: {seeds: [5]}", "expected some of budget, chat_template, confidence, prompt_template, tuning"),
        ("a: {tuning: {scheduler: linear}}", "expected some of alpha, batch_size, epochs, learning_rate, rank, tokens"),
        ("a: {tuning: {learning_rate: 2x}}", "expected a number or a factor such as x0.5"),
        ("a: {tuning: {learning_rate: x0}}", "has the factor 0"),
        ("a: {tuning: {learning_rate: x1}}", "the same settings as the experiment"),
        ("a: {tuning: {tokens: 900, epochs: 2}}", "`tokens` replaces `epochs`; keep one of them"),
        ("a: {tuning: {}}", "this one changes nothing"),
        ("a: {budget: 12}", "this one changes nothing"),
        ("a: {budget: 13, tuning: {epochs: 2}}", "13 is not one of the `budgets` (12, 24)"),
        ("a: {prompt_template: none}", "expected exactly one {prompt}"),
        ("a: {confidence: {column: best}}", "expected 'mean_probability'"),
        ("a: {chat_template: true}", "no chat template"),
        ("a: 2", "expected a section"),
    ],
)
def test_a_mistake_in_a_variant_is_one_clear_sentence(line: str, said: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        parsed(f"{TEXT}  {line}\n")
    assert said in str(caught.value) and "robustness" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("purpose: study", "purpose: campaign"), "a campaign has answers only for the lists that were sent out"),
        (
            ("strategies: [random, facility_location, weighted_task_diversity]", "strategies: [random]"),
            "needs two strat",
        ),
        (("weighted_task_diversity]", "task_diversity]"), "neither task_diversity nor random reads confidence"),
        (("name: miniature", f"name: {'m' * 60}"), "expected at most 63"),
    ],
)
def test_a_variant_that_does_not_fit_its_experiment_is_refused(change: tuple[str, str], said: str) -> None:
    text = TEXT.replace(*change)
    if "[random]" in change[1]:
        text = "\n".join(line for line in text.splitlines() if not line.startswith(("primary", "purpose")))
    text = text.replace("strategy: weighted_task_diversity", "strategy: task_diversity") if "task_div" in said else text
    with pytest.raises(ExperimentError, match=said):
        parsed(text)


def test_a_campaign_may_vary_the_training() -> None:
    text = (
        TEXT.split("  other_template")[0]
        .replace("purpose: study", "purpose: campaign")
        .replace("full_pool_seeds: [0]", "")
    )
    assert derived(parsed(text), "half_rate").selection_seeds == (0,)


# --- what a variant computes, and what it uses of its experiment ------------------------------------------------------------


def test_a_variant_computes_only_what_its_change_affects() -> None:
    half, template, first = (REGISTRY.used(one) for one in variants_of(parsed()))
    assert half == ("adapter", "benchmark_scores")
    chosen = ("confidence_table", "task_confidence", "ranking", "allocation", "adapter", "benchmark_scores")
    assert template == first == chosen
    one = derived(parsed(), "half_rate")
    assert [cell.key for cell in cells.expected(one, Store(one.name, "/nowhere"), None)] == [
        "24|random", "24|weighted_task_diversity",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["half_rate", "other_template", "first_token"])
def test_every_other_result_is_that_of_the_experiment(stored: Store, name: str) -> None:
    """All results outside `used` have the identity that the variant's own settings give, so they are never computed again."""
    experiment = parsed()
    one = derived(experiment, name)
    lineage, of_file = REGISTRY.look(one, stored.of_variant(name)), REGISTRY.look(experiment, stored)
    used = REGISTRY.used(one)
    same = {"raw_pool", "annotations", "base_model", "task_labels"}
    units = [Unit(asset) for asset in (*same, "confidence_table", "task_confidence") if asset not in used]
    units += [Unit("ranking", strategy) for strategy in ("random", "weighted_task_diversity") if "ranking" not in used]
    units += [Unit("allocation", "24|random")] if "allocation" not in used else []
    assert same <= {unit.asset for unit in units}
    for unit in units:
        assert lineage.expect(unit).identity == of_file.expect(unit).identity, unit
        assert lineage.is_fresh(unit), unit


def test_a_change_of_the_rate_trains_and_nothing_else(stored: Store) -> None:
    one = derived(parsed(), "half_rate")
    lineage = REGISTRY.look(one, stored.of_variant("half_rate"))
    of_file = REGISTRY.look(parsed(), stored)
    cell = Cell(24, "random")
    assert [plan.learning_rate for plan in lineage.adapter_plans(cell)] == [1e-3, 1e-3]
    assert {plan.pairs for plan in lineage.adapter_plans(cell)} == {plan.pairs for plan in of_file.adapter_plans(cell)}
    assert lineage.state(Unit("adapter", cell.key)).status == "missing"
    missing = running.missing_units(one, lineage.store, None, running.Filter())
    assert [str(unit) for unit in missing] == [
        "adapter/24|random", "benchmark_scores/24|random",
        "adapter/24|weighted_task_diversity", "benchmark_scores/24|weighted_task_diversity",
    ]  # fmt: skip


def test_equal_tokens_are_a_variant_whose_epochs_are_no_part_of_the_identity(stored: Store) -> None:
    text = TEXT.replace("learning_rate: x0.5", "tokens: 900")
    one = derived(parsed(text), "half_rate")
    assert (one.tuning.tokens, one.tuning.epochs) == (900, 1) and REGISTRY.used(one) == ("adapter", "benchmark_scores")
    identities = [
        [plan.identity for plan in REGISTRY.look(one, stored.of_variant("half_rate")).adapter_plans(Cell(24, "random"))]
        for one in (one, derived(parsed(text.replace("epochs: 1", "epochs: 2")), "half_rate"))
    ]
    assert identities[0] == identities[1]
    of_file = [plan.identity for plan in REGISTRY.look(parsed(), stored).adapter_plans(Cell(24, "random"))]
    assert set(of_file).isdisjoint(identities[0])
    lines = planning.variant_lines(parsed(text), stored, None)
    assert any("variant half_rate: 2 of 2 cells missing; 3,600 tokens to train (over seeds)" in line for line in lines)
    with pytest.raises(ExperimentError, match="for variants only"):
        parsed(TEXT.replace("epochs: 1,", "epochs: 1, tokens: 900,"))


def test_another_definition_of_confidence_asks_no_model_again(stored: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the model was loaded, although every prompt has its scores")

    monkeypatch.setattr(scoring, "load_source", refuse)
    one = derived(parsed(), "first_token")
    own = stored.of_variant("first_token")
    before = sorted(Path(stored.path("scores")).rglob("*.parquet"))
    for unit in (Unit("confidence_table"), Unit("task_confidence"), Unit("ranking", "weighted_task_diversity")):
        make_unit(one, own, unit)
    table = own.read_table("confidence_table").table
    assert table["confidence"].to_pylist() == table["first_probability"].to_pylist()
    assert own.owns("confidence_table") and not own.owns("raw_pool")
    assert sorted(Path(stored.path("scores")).rglob("*.parquet")) == before
    lineage = REGISTRY.look(one, own)
    assert lineage.is_fresh(Unit("ranking", "random")) and not own.owns("ranking", "random")
    assert lineage.is_fresh(Unit("benchmark_scores", "24|random"))  # random reads no confidence
    assert REGISTRY.look(parsed(), stored).is_fresh(Unit("confidence_table"))
    checked = [entry.name for entry in check_stored(parsed(), stored) if entry.variant]
    assert checked == [
        "first_token: confidence_table", "first_token: task_confidence", "first_token: ranking/weighted_task_diversity",
    ]  # fmt: skip


def test_a_variant_multiplies_the_rate_that_was_chosen(stored: Store) -> None:
    """The chosen rate comes from the experiment's own choice. Without a fresh choice, the variant waits."""
    experiment = parsed(TEXT.replace(*CANDIDATES))
    one = derived(experiment, "half_rate")
    own = stored.of_variant("half_rate")
    with pytest.raises(StaleInputError, match="tuning_choice is not there yet; run `taskdiv run miniature`"):
        REGISTRY.look(one, own).adapter_plans(Cell(24, "random"))
    expected = REGISTRY.look(experiment, stored).expect(Unit("tuning_choice"))
    notes = {"learning_rate": 4e-3, "why": "a test"}
    table = REGISTRY["tuning_choice"]
    footer = Footer(
        "tuning_choice",
        None,
        expected.identity,
        expected.inputs,
        table.code_version,
        "",
        "",
        "",
        0.0,
        rules=(),
        notes=notes,
    )
    from data_contracts import load

    stored.write_table(load("tuning_choice").arrow_schema.empty_table(), footer)
    try:
        assert [plan.learning_rate for plan in REGISTRY.look(one, own).adapter_plans(Cell(24, "random"))] == [
            2e-3,
            2e-3,
        ]
        same = derived(experiment, "first_token")
        plans = REGISTRY.look(same, stored.of_variant("first_token")).adapter_plans(Cell(24, "random"))
        assert [plan.learning_rate for plan in plans] == [4e-3, 4e-3]
    finally:
        stored.remove("tables", "tuning_choice.parquet")


def test_a_training_that_diverges_says_in_which_variant(stored: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note has the variant and its changes, from which the report knows why the variant has no scores."""

    def diverge(*_: object) -> None:
        raise DivergedError("the loss is nan at step 1 of 8", [float("nan")])

    monkeypatch.setattr(training, "run", diverge)
    one = derived(parsed(), "half_rate")
    unit, own = Unit("adapter", "24|random"), stored.of_variant("half_rate")
    lineage = REGISTRY.look(one, own)
    work = Work(one, own, lineage, unit, lineage.expect(unit), str)
    plan = lineage.adapter_plans(work.cell)[0]
    with pytest.raises(ValueError, match="training seed 0: the loss is nan"):
        training.train(work, plan, [], {})
    path = Path(stored.path("failures", f"{plan.identity}.json"))
    note = json.loads(path.read_text())
    path.unlink()
    assert note["variant"] == {"name": "half_rate", "changes": {"tuning": {"learning_rate": "x0.5"}}}
    assert note["cell"] == "24|random"


def test_the_files_of_a_variant_are_in_its_experiments_folder(tmp_path: Path) -> None:
    store = Store("mine", str(tmp_path)).of_variant("half")
    assert store.locate("tables", "x.parquet") == f"{tmp_path}/mine/variants/half/tables/x.parquet"
    assert store.path("folders", "abc") == f"{tmp_path}/mine/folders/abc"
    assert store.path() == f"{tmp_path}/mine/variants/half"
    assert Store("mine_VARIANT_..", str(tmp_path)).path() == f"{tmp_path}/mine_VARIANT_.."


def test_a_cell_that_a_variant_does_not_have_is_refused(stored: Store) -> None:
    one = derived(parsed(), "half_rate")
    with pytest.raises(ValueError, match=r"has the cells 24\|random, 24\|weighted_task_diversity, and not 12\|random"):
        cells.refuse_unexpected(one, stored.of_variant("half_rate"), Cell(12, "random"), None)


# --- Dagster and the commands -----------------------------------------------------------------------------------------------


def test_dagster_shows_each_variant_as_a_group_whose_inputs_are_the_experiments() -> None:
    defs = factory.build(parsed(), TEXT)
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    groups = {key.path[0] for key in graph.get_all_asset_keys()}
    assert groups == {"miniature", *(one.name for one in variants_of(parsed()))}
    adapter = graph.get(dg.AssetKey(["miniature_VARIANT_half_rate", "adapter"]))
    assert {key.to_user_string() for key in adapter.parent_keys} == {
        "miniature/allocation", "miniature/raw_pool", "miniature/annotations", "miniature/base_model",
    }  # fmt: skip
    report = graph.get(dg.AssetKey(["miniature", "strategy_report"]))
    assert dg.AssetKey(["miniature_VARIANT_half_rate", "benchmark_scores"]) in report.parent_keys
    assert defs.resolve_job_def("miniature_VARIANT_half_rate_cells")


def test_a_task_of_a_variant_has_a_name_of_its_own() -> None:
    task = Task("cells", ("adapter",), "24|random", after=frozenset({"random"})).of_variant("half")
    assert (task.name, task.after) == ("half: 24|random", frozenset({"half: random"}))


def test_plan_says_what_each_variant_costs(miniature: Home) -> None:
    path = miniature.write_experiment("miniature", ("budgets:", f"{SECTION.strip()}\nbudgets:"))
    said = miniature.say("plan", str(path)).stdout
    assert "variant half_rate: 2 of 2 cells missing; 96 examples to train (over epochs and seeds)" in said
    assert "variant other_template: 2 of 2 cells missing; 48 examples to train (over epochs and seeds)" in said
    first = next(line for line in said.splitlines() if line.startswith("variant first_token"))
    assert first.startswith("variant first_token: 1 of 2 cells missing; 48 examples") and "to score" not in first
    assert f"next: taskdiv run {path}" in said


class InThisProcess:
    """Workers that execute each run in this process, which saves the seconds of imports in a new one."""

    def __init__(self, experiment: str, _: int) -> None:
        self.experiment = experiment

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def carry_out(self, tasks: list[Task], *_: object, **__: object) -> list[Outcome]:
        return [execute(self.experiment, task) for task in tasks]


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_run_that_is_killed_among_the_cells_of_a_variant_goes_on(
    golden: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied(golden, tmp_path)
    section = "robustness: {half_rate: {tuning: {learning_rate: x0.5}}}\n"
    path = home.write_experiment("miniature", ("budgets:", f"{section}budgets:"))
    process = home.start("run", str(path), "--workers", "1")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("done") and "half_rate: " in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    results = tmp_path / "results/miniature"
    before = {one: one.stat().st_mtime_ns for one in sorted(results.rglob("variants/half_rate/tables/**/*.parquet"))}
    assert 2 <= len(before) < 4
    monkeypatch.setattr(running, "Workers", InThisProcess)
    again = home.say("run", str(path), "--workers", "1")
    assert again.returncode == 0, again.stderr
    assert {one: one.stat().st_mtime_ns for one in before} == before
    page = (results / "report/index.html").read_text()
    assert "of 1 variant." in page and "x0.5 (0.001 instead of 0.002)" in page
    assert reports.render(str(results)).html == page
    with variables_of(home), instance.open_instance() as opened:
        one = derived(experiment_file.load(str(path)), "half_rate")
        assert running.missing_units(one, Store(one.name), opened, running.Filter()) == []
        checked = list(check_stored(one, Store(one.name)))
        assert len(checked) == 4 and not any(entry.failed or entry.out_of_date for entry in checked)
    assert home.say("experiments", "remove", "miniature", "--yes").returncode == 0
    assert not results.exists()
    with variables_of(home), instance.open_instance() as opened:
        assert [key for key in opened.get_asset_keys() if key.path[0].startswith("miniature")] == []
