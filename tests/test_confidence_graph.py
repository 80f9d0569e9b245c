"""Confidence in the graph: stored parts that are found again, samples, other sources and definitions, and accuracy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import data_contracts
from taskdiv_assets.assets.confidence_table import scored_prompts
from taskdiv_assets.commands.planning import plan
from taskdiv_assets.confidence.sampling import half_widths, sample_places, task_means
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.confidence import Scorer
from taskdiv_assets.orchestration.produce import in_contract_order
from taskdiv_assets.selection import parse_prompt_ids
from taskdiv_assets.selection.apportionment import allocate
from taskdiv_assets.storage import parts as stored_parts
from tests.graph import Graph, failure, make_unit
from tests.home import Home

pytestmark = pytest.mark.xdist_group("confidence_graph")
CONFIDENCE = "confidence: {column: mean_probability, max_new_tokens: 6}"
ALTERNATIVES = (
    "confidence: {column: mean_probability, max_new_tokens: 6, alternatives: [{name: own_tokens, of: prompt}, "
    "{name: small, model: {lab: {seed: 5, steps: 20, batch_size: 16, hidden_size: 16, layers: 1}}}]}"
)


class Bench:
    """Variants of one experiment over one store. One variant finds the scores of another."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance

    def variant(self, *replacements: tuple[str, str]) -> Graph:
        return Graph(
            self.home.write_experiment("sure", ("lab}", "lab, split: validation}"), *replacements), self.instance
        )

    @property
    def parts(self) -> dict[str, int]:
        """Return the number of prompts in each part of the scores."""
        root = self.home.folder / "results/sure/scores"
        return {str(p.relative_to(root)): pq.read_metadata(p).num_rows for p in sorted(root.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Yield a pool with its labels, base model, and base scores on the validation items."""
    home = Home(tmp_path_factory.mktemp("sure"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        made = Bench(home, instance)
        graph = made.variant()
        for name in ("raw_pool", "task_labels", "base_model", "base_scores"):
            make_unit(graph.experiment, graph.store, Unit(name))
        yield made


def run(graph: Graph, *assets: str) -> None:
    result = graph.run("pool", *assets)
    assert result.success, failure(result)


def frame(graph: Graph, asset: str) -> pd.DataFrame:
    return graph.store.read_table(asset).table.to_pandas()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each batch by the number of its prompts."""
    seen: list[int] = []
    original = Scorer._score

    def counting(self: Scorer, group: Any) -> Any:
        seen.append(len(group.positions))
        return original(self, group)

    monkeypatch.setattr(Scorer, "_score", counting)
    return seen


@pytest.fixture(scope="module")
def whole(bench: Bench) -> pd.DataFrame:
    """Return the confidence table of all prompts."""
    graph = bench.variant()
    run(graph, "confidence_table")
    return frame(graph, "confidence_table")


def test_another_definition_scores_nothing_again(bench: Bench, whole: pd.DataFrame, counted: list[int]) -> None:
    before = bench.parts
    graph = bench.variant(("column: mean_probability", "column: geometric_mean"))
    run(graph, "confidence_table", "task_confidence")
    table = frame(graph, "confidence_table")
    expected = np.exp(table["sequence_log_probability"] / table["generated_n"])
    assert np.allclose(table["confidence"], expected, rtol=1e-12)
    assert counted == [] and bench.parts == before
    assert table.drop(columns="confidence").equals(whole.drop(columns="confidence"))


@pytest.mark.parametrize(
    "change",
    [(CONFIDENCE, CONFIDENCE.replace("6}", "5}")), ("confidence:", 'prompt_template: "{prompt} "\nconfidence:')],
    ids=["max_new_tokens", "template"],
)
def test_what_changes_the_scores_uses_none_of_the_old_parts(
    bench: Bench, whole: pd.DataFrame, counted: list[int], change: tuple[str, str]
) -> None:
    run(bench.variant(change), "confidence_table")
    assert sum(counted) == len(whole)


def test_a_damaged_part_is_told_and_scored_again(bench: Bench, whole: pd.DataFrame, counted: list[int]) -> None:
    graph = bench.variant()
    root = (
        bench.home.folder / "results/sure/scores" / graph.lineage().models.scorer(graph.experiment.confidence).identity
    )
    part = next(root.glob("*.parquet"))
    good = part.read_bytes()
    part.write_bytes(good[: len(good) // 2])
    (root / "notes.txt").write_text("not a part")
    (root / "0123456789abcdef.parquet").write_bytes(b"not Parquet at all")
    run(bench.variant((CONFIDENCE, CONFIDENCE.replace("6}", "6 }"))), "raw_pool")  # the same settings, another text
    bench.home.folder.joinpath("results/sure/tables/confidence_table.parquet").unlink()
    result = graph.run("pool", "confidence_table")
    assert result.success, failure(result)
    assert frame(graph, "confidence_table").equals(whole)
    assert sum(counted) == len(whole)
    assert pq.read_table(part).num_rows == len(whole), "the same prompts make a part of the same name"
    for name in ("notes.txt", "0123456789abcdef.parquet"):
        (root / name).unlink()


def test_a_sample_is_a_prefix_of_the_order_of_sampling(bench: Bench, whole: pd.DataFrame, counted: list[int]) -> None:
    tables = {}
    for size in (3, 8):
        graph = bench.variant(
            ("confidence:", f"confidence_sample: {size}\nconfidence:"), ("random, facility", "random, facility")
        )
        run(graph, "confidence_table", "task_confidence")
        tables[size] = frame(graph, "confidence_table")
    assert counted == [], "every prompt had been scored"
    labels = frame(graph, "task_labels").set_index("prompt_id")["task"]
    ids = labels.index.tolist()
    codes = labels.astype("category").cat.codes.to_numpy()
    places = dict(zip(ids, sample_places(parse_prompt_ids(ids), codes), strict=True))
    for size, table in tables.items():
        assert set(table["prompt_id"]) == {i for i in ids if places[i] < size}
        assert table.equals(whole[whole["prompt_id"].isin(table["prompt_id"])].reset_index(drop=True))
    assert set(tables[3]["prompt_id"]) < set(tables[8]["prompt_id"])
    rows = frame(graph, "task_confidence").set_index("task")
    assert (rows["scored_n"] == np.minimum(rows["pool_n"], 8)).all() and (rows["standard_error"] > 0).all()
    notes = graph.store.read_footer("task_confidence").notes
    assert notes["sampling"].startswith(f"{rows['scored_n'].sum()} of {len(whole)} prompts scored")
    assert 0 < notes["sampling_distance"]["24"] < 0.5


@pytest.mark.full
def test_a_tolerance_goes_on_until_every_task_is_known(bench: Bench, whole: pd.DataFrame) -> None:
    graph = bench.variant(("confidence:", "confidence_sample: {tolerance: 0.1, first: 4}\nconfidence:"))
    planned = plan(graph.experiment, graph.store)
    run(graph, "confidence_table", "task_confidence", "confidence_comparison")
    table, labels = frame(graph, "confidence_table"), frame(graph, "task_labels")
    values = labels.merge(table[["prompt_id", "confidence"]], on="prompt_id", how="left")
    codes = values["task"].astype("category").cat.codes.to_numpy()
    means = task_means(codes, values["confidence"].to_numpy(), 6)
    is_exhausted = means.scored_n == means.pool_n
    assert (is_exhausted | (half_widths(means) <= 0.1 * means.mean)).all()
    assert (means.scored_n >= 4).all() and len(table) < len(whole)
    assert planned.prompts_to_score_n == 24 and "until every task is known within 10.0%" in planned.sampling
    rows = frame(graph, "confidence_comparison").query("is_chosen and budget_n == 24")
    assert (rows["allocated_low_n"] <= rows["allocated_n"]).all() and (
        rows["allocated_n"] <= rows["allocated_high_n"]
    ).all()


@pytest.mark.full
def test_definitions_and_cheaper_sources_side_by_side(bench: Bench, whole: pd.DataFrame) -> None:
    graph = bench.variant((CONFIDENCE, ALTERNATIVES))
    run(graph, "confidence_table", "task_confidence", "confidence_comparison")
    table = frame(graph, "confidence_comparison")
    assert set(table["source"]) == {"chosen", "own_tokens", "small"}
    assert (
        len(table) == (5 + 2) * 2 * 6
        and table.groupby(["source", "definition", "budget_n"])["is_chosen"].first().sum() == 2
    )
    weights = frame(graph, "task_confidence").set_index("task")
    chosen = table.query("is_chosen and budget_n == 24").set_index("task")
    assert np.allclose(chosen["mean_confidence"], weights["mean_confidence"].loc[chosen.index], rtol=1e-12)
    costs = np.rint(1e6 * chosen["mean_confidence"].to_numpy()).astype(np.int64)
    assert (
        chosen["allocated_n"].tolist() == allocate(costs, weights["pool_n"].loc[chosen.index].to_numpy(), 24).tolist()
    )
    labels = frame(graph, "task_labels").merge(whole, on="prompt_id")
    least = labels.groupby("task")["min_probability"].mean()
    found = table.query("definition == 'min_probability' and budget_n == 12").set_index("task")["mean_confidence"]
    assert np.allclose(found, least.loc[found.index], rtol=1e-12)
    seconds = table.groupby("source")["score_s"].first()
    assert (seconds > 0).all()
    again = bench.parts
    bench.home.folder.joinpath("results/sure/tables/confidence_comparison.parquet").unlink()
    run(graph, "confidence_comparison")
    assert bench.parts == again and frame(graph, "confidence_comparison").equals(table)


@pytest.mark.full
def test_a_proxy_can_be_chosen(bench: Bench, whole: pd.DataFrame) -> None:
    text = "confidence: {of: prompt, max_new_tokens: 6, model: {lab: {seed: 5, steps: 20, batch_size: 16, hidden_size: 16, layers: 1}}}"
    graph = bench.variant((CONFIDENCE, text))
    run(graph, "confidence_table", "task_confidence", "confidence_comparison")
    table = frame(graph, "confidence_table")
    assert len(table) == len(whole) and not np.allclose(table["confidence"], whole["confidence"])
    assert "proxy_model" in graph.store.read_footer("confidence_table").inputs


def test_being_right_is_what_lm_eval_says_of_the_validation_items(bench: Bench, whole: pd.DataFrame) -> None:
    """The benchmark `lab` on its validation split, by lm-eval, is the second definition."""
    graph = bench.variant()
    run(graph, "confidence_accuracy")
    found = frame(graph, "confidence_accuracy").set_index("task")
    by_lm_eval = frame(graph, "base_scores").groupby("task")["score"].agg(["mean", "size"])
    assert found["accuracy"].to_dict() == by_lm_eval["mean"].to_dict()
    assert found["items_n"].to_dict() == by_lm_eval["size"].to_dict() == dict.fromkeys(found.index, 20)
    assert ((found["accuracy_low"] <= found["accuracy"]) & (found["accuracy"] <= found["accuracy_high"])).all()
    assert found["answer_probability"].between(0, 1).all()
    assert found.loc["copy", "answer_probability"] != found.loc["flip", "answer_probability"]


@pytest.mark.full
def test_items_of_another_seed_are_other_items(bench: Bench, whole: pd.DataFrame) -> None:
    """They stand at the same places under the same names; what was scored of the first must not be taken for them."""
    from taskdiv_assets.language_model.confidence import score
    from taskdiv_assets.language_model.loading import load
    from taskdiv_assets.pools.lab import held_out_items

    run(bench.variant(), "confidence_accuracy")
    graph = bench.variant(("reader: lab, seed: 1", "reader: lab, seed: 2"))
    run(graph, "confidence_accuracy")
    items = held_out_items("validation", 2, graph.experiment.pool.tasks)
    base = graph.store.fetch_folder(graph.lineage().fresh(Unit("base_model")).identity)
    scores = score(load(base, dtype="float32", attention="sdpa"), [item.prompt for item in items], max_new_tokens=6)
    expected = pd.Series(scores.columns["mean_probability"]).groupby([item.task for item in items]).mean()
    found = frame(graph, "confidence_accuracy").set_index("task")["mean_confidence"]
    assert np.allclose(found, expected.loc[found.index], rtol=1e-12)


@pytest.mark.full
def test_time_is_that_of_the_prompts_that_count(bench: Bench, whole: pd.DataFrame) -> None:
    run(bench.variant(), "confidence_table")
    everything = bench.variant().store.read_footer("confidence_table").notes
    graph = bench.variant(("confidence:", "confidence_sample: 3\nconfidence:"))
    run(graph, "confidence_table")
    part = graph.store.read_footer("confidence_table").notes
    assert part["scored_n"] == 18 and part["score_s"] < 0.5 * everything["score_s"]
    assert part["prompts_per_s"] == pytest.approx(
        everything["prompts_per_s"], rel=0.5
    )  # parts differ, and digits are cut


@pytest.mark.full
def test_checking_contracts_scores_nothing(bench: Bench, whole: pd.DataFrame, counted: list[int]) -> None:
    parameters = {}
    for name, text in (("number", "3"), ("tolerance", "{tolerance: 0.1, first: 4}")):
        graph = bench.variant(("confidence:", f"confidence_sample: {text}\nconfidence:"))
        run(graph, "confidence_table")
        counted.clear()
        lineage, unit = graph.lineage(), Unit("confidence_table")
        work = Work(graph.experiment, graph.store, lineage, unit, lineage.expect(unit), lambda text: None)
        parameters[name] = scored_prompts(work)["scored_prompt_ids"]
        assert parameters[name] == frame(graph, "confidence_table")["prompt_id"].tolist()
        scores = bench.home.folder / "results/sure/scores"
        scores.rename(scores.with_name("gone"))
        try:
            if name == "number":
                assert scored_prompts(work)["scored_prompt_ids"] == parameters[name]
            else:
                with pytest.raises(FileNotFoundError, match="by which the sample was drawn are missing in"):
                    scored_prompts(work)
            assert counted == [] and not scores.exists()
        finally:
            scores.with_name("gone").rename(scores)


@pytest.mark.full
def test_a_proxy_that_is_gone_blocks_what_needs_it_and_no_more(bench: Bench, tmp_path: Path) -> None:
    text = f"confidence: {{max_new_tokens: 6, alternatives: [{{name: lost, model: {{path: {tmp_path / 'nowhere'}}}}}]}}"
    graph = bench.variant((CONFIDENCE, text))
    state = graph.lineage().state(Unit("confidence_comparison"))
    assert (
        state.status == "blocked"
        and "the model that scores instead of the base cannot be read: base model" in state.reason
    )
    assert plan(graph.experiment, graph.store).unpartitioned["confidence_comparison"] == "blocked"
    result = graph.run("pool", "confidence_comparison")
    assert not result.success and "there is no such folder" in failure(result)


def test_a_wrong_answer_key_is_right_nowhere(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskdiv_assets.assets import confidence_accuracy

    graph = bench.variant((CONFIDENCE, CONFIDENCE.replace("6}", "6, validation_items: 5}")))
    original = confidence_accuracy.validation_items

    def shuffled(work: Any) -> Any:
        items = original(work)
        return items._replace(answers=["zzzz"] * len(items.ids))

    monkeypatch.setattr(confidence_accuracy, "validation_items", shuffled)
    run(graph, "confidence_accuracy")
    found = frame(graph, "confidence_accuracy")
    assert found["items_n"].tolist() == [5] * 6 and found["accuracy"].tolist() == [0.0] * 6
    assert (found["accuracy_high"] > 0).all()


def test_the_parts_are_written_as_batches_come(
    bench: Bench, whole: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_parts, "PART_ROWS_N", 16)
    before = set(bench.parts)
    run(bench.variant((CONFIDENCE, CONFIDENCE.replace("6}", "4}"))), "confidence_table")
    new = {name: rows_n for name, rows_n in bench.parts.items() if name not in before}
    assert len(new) > 1 and sum(new.values()) == len(whole)


def test_state_after_all_that(bench: Bench) -> None:
    """A variant's own tables are fresh, and those of the variant before are not taken for it."""
    graph = bench.variant()
    run(graph, "confidence_table", "task_confidence")
    assert graph.lineage().is_fresh(Unit("task_confidence"))
    other = bench.variant(("confidence:", "confidence_sample: 3\nconfidence:"))
    assert other.lineage().state(Unit("confidence_table")).status == "stale"


class TestRefusals:
    def refused(self, tmp_path: Path, *replacements: tuple[str, str]) -> str:
        path = Home(tmp_path).write_experiment("mine", *replacements)
        text, origin = experiments.read_text(str(path))
        with pytest.raises(experiments.ExperimentError) as error:
            experiments.parse(text, origin)
        return str(error.value)

    def test_orders_by_score_want_every_prompt_scored(self, tmp_path: Path) -> None:
        said = self.refused(
            tmp_path,
            ("confidence:", "confidence_sample: 10\nconfidence:"),
            ("[random, facility", "[random, min_margin, facility"),
        )
        assert "confidence_sample: min_margin needs a score of every prompt: remove the strategy, or" in said

    def test_orders_by_score_go_by_the_continuation(self, tmp_path: Path) -> None:
        said = self.refused(
            tmp_path, (CONFIDENCE, "confidence: {of: prompt}"), ("[random, facility", "[random, mean_entropy, facility")
        )
        assert "confidence.of: mean_entropy reads scores of the continuation" in said

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("confidence_sample: 0", "confidence_sample"),
            ("confidence_sample: {tolerance: 1.5}", "confidence_sample"),
            ("confidence_sample: {tolerance: 0.1, first: 1}", "confidence_sample"),
            ("chat_template: true", "the lab's model has no chat template"),
        ],
    )
    def test_settings_out_of_range(self, tmp_path: Path, text: str, expected: str) -> None:
        assert expected in self.refused(tmp_path, ("confidence:", f"{text}\nconfidence:"))

    def test_two_sources_of_one_name(self, tmp_path: Path) -> None:
        twice = CONFIDENCE.replace("6}", "6, alternatives: [{name: a, of: prompt}, {name: a}]}")
        assert "'a' is the name of two sources" in self.refused(tmp_path, (CONFIDENCE, twice))

    def test_the_labs_proxy_beside_another_pool(self, tmp_path: Path) -> None:
        said = self.refused(
            tmp_path,
            (CONFIDENCE, "confidence: {model: {lab: {seed: 2}}}"),
            (
                "pool: {reader: lab, seed: 1, tasks: [copy, reverse, upper, first, max, flip], largest_n: 40, smallest_n: 12}",
                "pool: {reader: table, path: p.csv, columns: {prompt: q}}",
            ),
        )
        assert "confidence.model.lab: the lab's model knows only the lab's vocabulary" in said


@pytest.mark.full
def test_a_chat_model_reads_its_own_template(shared_data: Path, empty_home: Home) -> None:
    """Scored through the graph, and by hand from the text that should be read."""
    from taskdiv_assets.language_model.confidence import score
    from taskdiv_assets.language_model.loading import load

    folder = empty_home.folder / "chatty"
    shutil.copytree(shared_data / "models" / "stories260K", folder)
    folder.joinpath("chat_template.jinja").write_text("{{ bos_token }}User: {{ messages[0].content }}\nBot:")
    prompts = ["Tell me a story.", "Who is Lily?", "What did the dog see?"]
    rows = "".join(f'"{prompt}",{task}\n' for prompt, task in zip(prompts, ("a", "b", "b"), strict=True))
    empty_home.folder.joinpath("p.csv").write_text(f"question,topic\n{rows}")
    path = empty_home.write_experiment(
        "chat",
        ("pool: {reader: lab, seed: 1, tasks: [copy, reverse, upper, first, max, flip], largest_n: 40, smallest_n: 12}",
         "pool: {reader: table, path: p.csv, columns: {prompt: question, task: topic}}"),
        ("base_model: {lab: {seed: 1, steps: 40, batch_size: 32, hidden_size: 32, layers: 2}}",
         'base_model: {path: chatty}\nprompt_template: "Be brief. {prompt}"\nchat_template: true'),
        ("benchmarks: [{name: lab}]", "benchmarks: [{name: bbh, limit: 1}]"),
        ("benchmark: lab", "benchmark: bbh"),
        ("budgets: [12, 24]", "budgets: [2]"),
    )  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(path, instance)
        run(graph, "raw_pool", "task_labels", "base_model", "confidence_table", "task_confidence")
        run(graph, "confidence_comparison", "confidence_accuracy")
    table = frame(graph, "confidence_table").merge(frame(graph, "raw_pool")[["prompt_id", "prompt"]], on="prompt_id")
    texts = [f"User: Be brief. {prompt}\nBot:" for prompt in table["prompt"]]
    lm = load(folder, dtype="float32", attention="sdpa")
    assert table["mean_probability"].tolist() == score(lm, texts, max_new_tokens=6).columns["mean_probability"].tolist()
    assert frame(graph, "confidence_accuracy").empty  # no answers are known
    # A model in its place reads the prompts in its own chat template, not in the base's.
    other = empty_home.folder / "other"
    shutil.copytree(folder, other)
    other.joinpath("chat_template.jinja").write_text("{{ messages[0].content }} ->")
    text = path.read_text().replace(CONFIDENCE, "confidence: {max_new_tokens: 6, model: {path: other}}")
    path.write_text(text)
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(path, instance)
        run(graph, "confidence_table")
    found = frame(graph, "confidence_table").set_index("prompt_id")["mean_probability"].loc[table["prompt_id"]]
    texts = [f"Be brief. {prompt} ->" for prompt in table["prompt"]]
    assert found.tolist() == score(lm, texts, max_new_tokens=6).columns["mean_probability"].tolist()


@pytest.mark.full
def test_tasks_whose_prompts_are_all_alike_have_no_error_and_break_no_rule(
    bench: Bench, whole: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one case in which two scored prompts say nothing of the spread; elsewhere a missing error is an ERROR."""
    from taskdiv_assets.assets import confidence_table, task_confidence

    monkeypatch.setattr(
        confidence_table, "confidence", lambda columns, definition: np.full(len(columns["generated_n"]), 0.5)
    )
    graph = bench.variant(
        ("column: mean_probability", "column: first_probability"), ("confidence:", "confidence_sample: 4\nconfidence:")
    )
    result = graph.run("pool", "confidence_table", "task_confidence")
    checks = graph.checks(result)
    assert not result.success, "0.5 is not what the definition gives: the contract says so"
    assert not checks["confidence_table", "confidence_equals_definition"].passed
    monkeypatch.undo()
    run(graph, "confidence_table", "task_confidence")
    assert frame(graph, "task_confidence")["standard_error"].notna().all()
    work = Work(
        graph.experiment,
        graph.store,
        (look := graph.lineage()),
        (unit := Unit("task_confidence")),
        look.expect(unit),
        print,
    )
    assert task_confidence.spread_and_sizes(work)["estimable_from_n"] == 2
    alike = graph.store.read_table("confidence_table").table.to_pandas().assign(confidence=0.5)
    table = pa.Table.from_pandas(alike, preserve_index=False)
    read = work.read
    monkeypatch.setattr(
        Work, "read", lambda self, asset, key=None: table if asset == "confidence_table" else read(asset, key)
    )
    assert task_confidence.spread_and_sizes(work)["estimable_from_n"] == len(whole) + 1
    contract = data_contracts.load("task_confidence")
    made = in_contract_order(task_confidence.make_task_confidence(work).table, contract.arrow_schema)
    assert made["standard_error"].null_count == 6
    assert data_contracts.validate(contract, made, task_confidence.spread_and_sizes(work)).is_valid
    of_others = {**task_confidence.spread_and_sizes(work), "estimable_from_n": 2}
    broken = data_contracts.validate(contract, made, of_others)
    assert not broken.is_valid and "standard_error_where_estimable" in {rule.rule for rule in broken.failed}
