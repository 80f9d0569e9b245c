"""Benchmarks in the graph: real items answered by a real model, stored parts, judges that work or fail, and interruptions."""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from data_contracts.table_paths import table_parts
from taskdiv_assets.benchmarks.alpaca import judge as judge_module
from taskdiv_assets.benchmarks.alpaca.outputs import read_model_outputs
from taskdiv_assets.benchmarks.answering import Answerer
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model.continuation import WritingPlan
from taskdiv_assets.services.judge_batches import known_verdicts
from taskdiv_assets.storage import parts as stored_parts
from tests.alpaca.chat_server import Act, completion, error, serving
from tests.graph import Graph, failure, make_unit
from tests.home import Home

pytestmark = pytest.mark.xdist_group("benchmark_graph")
CELL = "6|random"
KEY = "sk-a-key-that-nobody-may-see"
MMLU = "{name: mmlu, source: SHARED/mmlu/mmlu_csv.tar.gz, tasks: [anatomy, virology], sample: 12}"
BBH = "{name: bbh, source: SHARED/bbh/bbh.parquet, tasks: [navigate, snarks], limit: 3, max_new_tokens: 4}"
ALPACA = (
    "{name: alpaca_eval, source: SHARED/alpaca_eval/alpaca_eval.jsonl.gz, limit: 8, max_new_tokens: 6, judge: JUDGE}"
)
JUDGE = "{model: judge-1, calls: 100, price: 0.5, parallel: 2}"
EXPERIMENT = """
name: judged
purpose: study
pool: {reader: table, path: stories.csv, columns: {prompt: prompt, response: response, task: task}}
base_model: {path: SHARED/models/stories260K}
prompt_template: "{prompt}\\n"
confidence: {max_new_tokens: 2}
strategies: [random, task_diversity]
budgets: [6]
seeds: [0, 1]
tuning: {rank: 2, alpha: 4, learning_rate: 1.0e-3, epochs: 1, batch_size: 4, max_length: 64}
benchmarks: [BENCHMARKS]
primary: {strategy: task_diversity, benchmark: bbh, metric: exact_match}
"""


class Bench:
    """Variants of one experiment over one store, so that shared results are found."""

    def __init__(self, home: Home, shared: Path, instance: dg.DagsterInstance) -> None:
        self.home, self.shared, self.instance = home, shared, instance

    def variant(self, *benchmarks: str, judge: str = JUDGE) -> Graph:
        listed = ", ".join(benchmarks).replace("JUDGE", judge)
        text = EXPERIMENT.replace("BENCHMARKS", listed).replace("SHARED", str(self.shared))
        path = self.home.folder / "judged.yaml"
        path.write_text(text)
        return Graph(path, self.instance)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Bench]:
    home = Home(tmp_path_factory.mktemp("judged"))
    with (home.folder / "stories.csv").open("w", newline="") as file:
        rows = [(f"Tell me about {who} {n}", f"{who} was happy.", who) for who in ("Lily", "Tom") for n in range(6)]
        csv.writer(file).writerows([("prompt", "response", "task"), *rows])
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        made = Bench(home, shared_data, instance)
        instance.add_dynamic_partitions("judged_budget", ["6"])
        graph = made.variant(BBH)
        shared = [Unit(name) for name in ("raw_pool", "task_labels", "annotations", "base_model")]
        for unit in (*shared, Unit("ranking", "random"), Unit("allocation", CELL), Unit("adapter", CELL)):
            make_unit(graph.experiment, graph.store, unit)
        yield made


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that sets the judge's address."""

    def set_to(url: str) -> None:
        monkeypatch.setenv("TASKDIV_JUDGE_URL", url)
        monkeypatch.setenv("TASKDIV_JUDGE_KEY", KEY)

    return set_to


def succeed(result: dg.ExecuteInProcessResult) -> None:
    assert result.success, failure(result)


def notes_of(graph: Graph, benchmark: str) -> dict[str, Any]:
    """Return the notes of the cell's table about one benchmark."""
    footer = graph.store.read_footer("benchmark_scores", CELL)
    assert footer is not None
    asked: dict[str, Any] = footer.notes["asked"][benchmark]
    return asked


def folders_of(graph: Graph, index: int) -> list[Path]:
    """Return the folders with both seeds' scores on the experiment's benchmark number `index`."""
    lineage, benchmark = graph.lineage(), graph.experiment.benchmarks[index]
    adapters = graph.store.read_table("adapter", CELL).table["folder"].to_pylist()
    return [graph.store.fetch_folder(lineage.scoring.scores(adapter, benchmark)) for adapter in adapters]


def outputs_of(graph: Graph, index: int) -> list[str]:
    """Return the identities of both seeds' outputs for AlpacaEval."""
    benchmark = graph.experiment.benchmarks[index]
    assert isinstance(benchmark, AlpacaEvalBenchmark)
    adapters = graph.store.read_table("adapter", CELL).table["folder"].to_pylist()
    return [graph.lineage().scoring.outputs(adapter, benchmark) for adapter in adapters]


def forget_scores(graph: Graph, index: int) -> None:
    """Remove both seeds' scores on one benchmark, and the cell's table, from the store."""
    for folder in folders_of(graph, index):
        for file in folder.iterdir():
            file.unlink()
    graph.store.remove(*table_parts("benchmark_scores", CELL))


def preferring_ours(number: int, body: dict[str, Any]) -> Act:
    """Choose our output, which is not the one in AlpacaEval's file: the tiny model writes about Lily or nothing."""
    return completion("m" if number % 2 else "M")


def test_scores_items_and_answers_are_kept_and_bound_to_the_settings(bench: Bench) -> None:
    graph = bench.variant(MMLU, BBH)
    result = graph.run("cells", "benchmark_scores", key=CELL)
    succeed(result)
    (event,) = result.get_asset_materialization_events()
    summary = str(event.materialization.metadata["summary"].value)
    assert (
        "| mmlu | acc |" in summary
        and "| 2 | 12 of 301 | " in summary
        and r"| bbh | exact\_match | 0.000 | 2 |" in summary
    )
    table = graph.store.read_table("benchmark_scores", CELL).table.to_pylist()
    assert len(table) == 2 * (12 + 6)
    assert {(row["benchmark"], row["metric"]) for row in table} == {("mmlu", "acc"), ("bbh", "exact_match")}
    assert notes_of(graph, "mmlu")["asked_n"] == 12 and notes_of(graph, "mmlu")["items_n"] == 135 + 166
    assert notes_of(graph, "mmlu")["written_n"] == 0
    assert notes_of(graph, "bbh")["written_n"] == 2 * 6 >= notes_of(graph, "bbh")["cut_answers_n"] > 0
    mmlu = pq.read_table(folders_of(graph, 0)[0] / "outputs.parquet").to_pylist()
    assert len(mmlu) == 12 * 4 and all(row["nats"] < 0 and row["text"] is None for row in mmlu)
    asked = pq.read_table(
        graph.store.fetch_folder(graph.lineage().scoring.questions(graph.experiment.benchmarks[0]))
        / "questions.parquet"
    ).to_pylist()
    assert [(row["task"], row["item_id"], row["question"]) for row in asked] == [
        (row["task"], row["item_id"], row["question"]) for row in mmlu
    ]
    assert {row["answer"] for row in asked} == {" A", " B", " C", " D"}
    of_item = {row["item_id"]: row["score"] for row in table if row["training_seed"] == 0}
    for item_id, target in {(row["item_id"], row["target"]) for row in asked}:
        nats = [row["nats"] for row in mmlu if row["item_id"] == item_id]
        assert of_item[item_id] == float(nats.index(max(nats)) == int(target))
    bbh = pq.read_table(folders_of(graph, 1)[0] / "outputs.parquet").to_pylist()
    assert len(bbh) == 6 and all(isinstance(row["text"], str) and row["nats"] is None for row in bbh)
    changed = bench.variant(MMLU.replace("sample: 12", "sample: 14"), BBH)
    assert changed.lineage().state(Unit("benchmark_scores", CELL)).status == "stale"
    succeed(changed.run("cells", "benchmark_scores", key=CELL))  # BBH is found, MMLU is asked anew
    more = {row["item_id"] for row in changed.store.read_table("benchmark_scores", CELL).table.to_pylist()}
    assert set(of_item) < more  # a larger sample holds the smaller one


@pytest.mark.full
def test_a_run_that_was_cut_off_goes_on_where_it_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = bench.variant(BBH.replace("limit: 3", "limit: 4"))
    monkeypatch.setattr(stored_parts, "PART_S", 0.0)
    asked: list[int] = []
    run = Answerer.run

    def counting(self: Answerer, known: Any) -> Iterator[Any]:
        for some in run(self, known):
            asked.append(len(some))
            yield some

    def stopped(self: Answerer, known: Any) -> Iterator[Any]:
        for some in run(self, known):
            keys = sorted(some)[:3]
            yield {key: some[key] for key in keys}
            raise KeyboardInterrupt

    monkeypatch.setattr(Answerer, "run", stopped)
    assert not graph.run("cells", "benchmark_scores", key=CELL).success
    parts = list((bench.home.folder / "results/judged/answers").rglob("*.parquet"))
    assert sum(pq.read_table(part).num_rows for part in parts) == 3
    (parts[0].parent / "torn.parquet").write_bytes(parts[0].read_bytes()[:40])  # another kill, while a part was put
    monkeypatch.setattr(Answerer, "run", counting)
    succeed(graph.run("cells", "benchmark_scores", key=CELL))
    assert sum(asked) == 16 - 3
    assert not list((bench.home.folder / "results/judged/answers").rglob("*.parquet"))
    resumed = [(folder / "outputs.parquet").read_bytes() for folder in folders_of(graph, 0)]
    cut_n = notes_of(graph, "bbh")["cut_answers_n"]
    forget_scores(graph, 0)
    succeed(graph.run("cells", "benchmark_scores", key=CELL))
    assert sum(asked) == 16 - 3 + 16
    assert [(folder / "outputs.parquet").read_bytes() for folder in folders_of(graph, 0)] == resumed
    assert notes_of(graph, "bbh")["cut_answers_n"] == cut_n  # the kept answers know it too


def test_outputs_are_written_judged_and_never_judged_twice(bench: Bench, judged: Callable[[str], None]) -> None:
    graph = bench.variant(BBH, ALPACA)
    with serving(preferring_ours) as server:
        judged(server.url)
        succeed(graph.run("cells", "benchmark_scores", key=CELL))
        asked_n = len(server.bodies)
        assert 8 <= asked_n <= 16  # both seeds write the same in places
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
        before = graph.store.read_table("benchmark_scores", CELL).table
        forget_scores(graph, 1)
        succeed(graph.run("cells", "benchmark_scores", key=CELL))
        assert len(server.bodies) == asked_n
    assert graph.store.read_table("benchmark_scores", CELL).table.equals(before)
    rows = [row for row in before.to_pylist() if row["benchmark"] == "alpaca_eval"]
    assert {row["metric"] for row in rows} == {"win_rate", "length_controlled_win_rate"} and len(rows) == 2 * 8 * 2
    assert {row["score"] for row in rows if row["metric"] == "win_rate"} == {0.0, 1.0}
    manifest = json.loads((folders_of(graph, 1)[0] / "manifest.json").read_text())
    outputs = read_model_outputs(
        (graph.store.fetch_folder(manifest["notes"]["outputs"]) / "model_outputs.json").read_bytes()
    )
    assert len(outputs) == 8 and outputs[0].instruction.startswith("What are the names of some famous actors")
    assert notes_of(graph, "alpaca_eval")["written_n"] == 2 * 8 >= notes_of(graph, "alpaca_eval")["cut_answers_n"] > 0
    for path in bench.home.folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_what_a_judge_leaves_open_is_counted_and_left_out(bench: Bench, judged: Callable[[str], None]) -> None:
    graph = bench.variant(BBH, ALPACA, judge=JUDGE.replace("judge-1", "judge-2"))

    def moody(number: int, body: dict[str, Any]) -> Act:
        if "famous actors" in body["messages"][1]["content"]:
            return completion("I am sorry, I cannot compare these.")
        return completion("m" if number % 2 else "M")

    with serving(moody) as server:
        judged(server.url)
        succeed(graph.run("cells", "benchmark_scores", key=CELL))
    notes = notes_of(graph, "alpaca_eval")
    assert notes["verdicts"]["refused"] == 2 and notes["left_out_n"] == 1
    rows = graph.store.read_table("benchmark_scores", CELL).table.to_pylist()
    assert sum(row["benchmark"] == "alpaca_eval" for row in rows) == 2 * 7 * 2
    footer = graph.store.read_footer("benchmark_scores", CELL)
    assert footer is not None
    assert all(rule.passed for rule in footer.rules if rule.severity == "error")


def test_a_benchmark_of_which_a_judge_leaves_nothing_is_not_silently_missing(
    bench: Bench, judged: Callable[[str], None]
) -> None:
    graph = bench.variant(BBH, ALPACA)
    with serving(preferring_ours) as server:
        judged(server.url)
        succeed(graph.run("cells", "benchmark_scores", key=CELL))
    ids = {row["item_id"] for row in pq.read_table(folders_of(graph, 1)[0] / "scores.parquet").to_pylist()}
    for folder, some in zip(folders_of(graph, 1), (sorted(ids)[:4], sorted(ids)[4:]), strict=True):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["notes"]["unjudged"] = some
        (folder / "manifest.json").write_text(json.dumps(manifest))
    graph.store.remove(*table_parts("benchmark_scores", CELL))
    said = failure(graph.run("cells", "benchmark_scores", key=CELL))
    assert "left every item of `alpaca_eval` open for some seed, so nothing can be compared" in said
    forget_scores(graph, 1)


def test_no_address_no_budget_and_no_answers_are_told_before_or_after_but_never_scored(
    bench: Bench, judged: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKDIV_JUDGE_URL", raising=False)
    other = JUDGE.replace("judge-1", "judge-3")
    graph = bench.variant(BBH, ALPACA, judge=other)
    assert "$TASKDIV_JUDGE_URL is not set" in failure(graph.run("cells", "benchmark_scores", key=CELL))
    with serving(lambda number, body: error(500, "down")) as server:
        judged(server.url)
        few = bench.variant(BBH, ALPACA, judge=other.replace("calls: 100", "calls: 5"))
        said = failure(few.run("cells", "benchmark_scores", key=CELL))
        assert "would be asked 8 times, but 5 of its 5 `calls` are left; raise `calls`" in said
        assert not server.bodies
    with serving(lambda number, body: error(401, "wrong key")) as server:
        judged(server.url)
        graph = bench.variant(BBH, ALPACA, judge=other)
        said = failure(graph.run("cells", "benchmark_scores", key=CELL))
        assert KEY not in said and "status 401" in said
        assert server.url.removesuffix("/v1") not in said and "at $TASKDIV_JUDGE_URL answered" in said
    lineage = graph.lineage()
    for adapter in graph.store.read_table("adapter", CELL).table["folder"].to_pylist():
        assert graph.store.read_manifest(lineage.scoring.scores(adapter, graph.experiment.benchmarks[1])) is None


def test_calls_that_are_repeated_count_too(
    bench: Bench, judged: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_module, "KEEP_N", 1)
    graph = bench.variant(BBH, ALPACA, judge="{model: judge-5, calls: 9, parallel: 1}")

    def slowly(number: int, body: dict[str, Any]) -> Act:
        return replace(error(429, "slowly", Retry_After="0") if number % 3 else completion("m"), wait_s=0.1)

    with serving(slowly) as server:
        judged(server.url)
        said = failure(graph.run("cells", "benchmark_scores", key=CELL))
        assert "used up its 9 `calls` with 4 outputs still open" in said, said
        assert len(server.bodies) <= 9 + 3  # what was on its way
    judge = graph.experiment.benchmarks[1]
    assert isinstance(judge, AlpacaEvalBenchmark) and judge.judge is not None
    assert known_verdicts(graph.store, judge.judge).calls_n >= 9


def test_a_key_that_cannot_be_sent_is_told_before_anything_is_written(
    bench: Bench, judged: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = bench.variant(BBH, ALPACA.replace("max_new_tokens: 6", "max_new_tokens: 2"))
    judged("http://127.0.0.1:9/v1")
    monkeypatch.setenv("TASKDIV_JUDGE_KEY", "sk-one\nsk-two")
    said = failure(graph.run("cells", "benchmark_scores", key=CELL))
    assert "check $TASKDIV_JUDGE_KEY" in said and "sk-one" not in said
    assert not any(graph.store.read_manifest(one) for one in outputs_of(graph, 1))


def test_outputs_written_before_a_stop_are_kept(
    bench: Bench, judged: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = bench.variant(BBH, ALPACA.replace("max_new_tokens: 6", "max_new_tokens: 3"))
    run = WritingPlan.run

    def stopped(self: WritingPlan, known: Any) -> Iterator[Any]:
        yield next(iter(run(self, known)))
        raise KeyboardInterrupt

    judged("http://127.0.0.1:9/v1")
    with monkeypatch.context() as patch:
        patch.setattr(WritingPlan, "run", stopped)
        assert not graph.run("cells", "benchmark_scores", key=CELL).success
    first, _ = outputs_of(graph, 1)
    assert graph.store.names("answers", first)


@pytest.mark.full
def test_a_sample_says_what_it_costs_both_win_rates(bench: Bench, judged: Callable[[str], None]) -> None:
    graph = bench.variant(BBH, ALPACA.replace("limit: 8", "sample: 8"))
    with serving(preferring_ours) as server:
        judged(server.url)
        succeed(graph.run("cells", "benchmark_scores", key=CELL))
    for folder in folders_of(graph, 1):
        note = json.loads((folder / "manifest.json").read_text())["notes"]
        rows = pq.read_table(folder / "scores.parquet").to_pylist()
        for metric in ("win_rate", "length_controlled_win_rate"):
            values = [row["score"] for row in rows if row["metric"] == metric]
            expected = statistics.stdev(values) * (1 / 8 * (1 - 8 / 805)) ** 0.5
            assert note["sampling_error"][metric] == pytest.approx(expected)


@pytest.mark.full
def test_a_rate_without_a_fit_is_noted(bench: Bench, judged: Callable[[str], None]) -> None:
    graph = bench.variant(BBH, ALPACA, judge=JUDGE.replace("judge-1", "judge-6"))

    references = {row["output"] for row in _alpaca_rows(bench.shared / "alpaca_eval/alpaca_eval.jsonl.gz")}

    def for_the_reference(number: int, body: dict[str, Any]) -> Act:
        first = re.search(r"\[begin m \w+\]\n(.*)\n\[end m \w+\]", body["messages"][1]["content"], re.DOTALL)
        return completion("m" if first is not None and first[1] in references else "M")

    with serving(for_the_reference) as server:
        judged(server.url)
        succeed(graph.run("cells", "benchmark_scores", key=CELL))
    assert sum(notes_of(graph, "alpaca_eval")["plain_for_length"].values()) == 2
    assert "questions" not in notes_of(graph, "alpaca_eval") and "questions" in notes_of(graph, "bbh")


@pytest.mark.full
def test_a_check_after_the_file_has_changed_says_what_is_not_there(bench: Bench, judged: Callable[[str], None]) -> None:
    graph = bench.variant(BBH, ALPACA)
    with serving(preferring_ours) as server:
        judged(server.url)
        succeed(graph.run("cells", "benchmark_scores", key=CELL))
    changed = bench.variant(BBH, ALPACA, judge=JUDGE.replace("judge-1", "judge-never-asked"))
    found = {str(one.unit): one for one in check_stored(changed.experiment, changed.store)}
    scores = found[str(Unit("benchmark_scores", CELL))]
    assert scores.out_of_date and all(rule.severity == "warning" for rule in scores.failed)


@pytest.mark.full
def test_without_a_judge_the_benchmark_is_left_out_and_the_report_says_so(bench: Bench) -> None:
    graph = bench.variant(BBH, ALPACA.replace(", judge: JUDGE", ""))
    succeed(graph.run("cells", "benchmark_scores", key=CELL))
    assert set(graph.store.read_table("benchmark_scores", CELL).table["benchmark"].to_pylist()) == {"bbh"}
    result = bench.home.say("plan", "judged.yaml")
    assert "benchmark alpaca_eval: left out, because it has no `judge`" in result.stdout, result.stderr
    assert bench.home.taskdiv("report", "judged.yaml").returncode == 0
    page = (bench.home.folder / "results/judged/report/index.html").read_text()
    assert "alpaca_eval is not scored: no judge is configured" in page
    assert "In 12 written answers (over all models and seeds) the benchmark’s filter found no answer" in page


@pytest.mark.full
def test_verdicts_of_another_annotator_are_imported(bench: Bench) -> None:
    graph = bench.variant(BBH, ALPACA.replace("max_new_tokens: 6", "max_new_tokens: 5"), judge="{annotator: panel}")
    said = failure(graph.run("cells", "benchmark_scores", key=CELL))
    assert "16 of 16 outputs have no verdict of annotator 'panel'" in said
    assert said.count("/model_outputs.json") == 2  # both seeds' at once, not one a run
    assert "then `taskdiv verdicts import judged annotations.json`" in said
    rows = []
    with_reference = {
        row["instruction"]: row["output"] for row in _alpaca_rows(bench.shared / "alpaca_eval/alpaca_eval.jsonl.gz")
    }
    for outputs in outputs_of(graph, 1):
        folder = graph.store.fetch_folder(outputs)
        for place, one in enumerate(read_model_outputs((folder / "model_outputs.json").read_bytes())):
            reference = {"output_1": with_reference[one.instruction], "generator_1": "text_davinci_003"}
            ours = {"output_2": one.output, "generator_2": one.generator, "preference": 1 + place / 10}
            rows.append({"instruction": one.instruction, "annotator": "panel", **reference, **ours})
    (bench.home.folder / "annotations.json").write_text(json.dumps(rows))
    wrong = [{**rows[0], "annotator": "somebody"}]
    (bench.home.folder / "wrong.json").write_text(json.dumps(wrong))
    assert bench.home.say("plan", "judged.yaml").returncode == 0
    refused = bench.home.say("verdicts", "import", "judged", "wrong.json")
    assert (
        refused.returncode == 2
        and "holds verdicts of somebody, but the experiment file names the annotator 'panel'" in refused.stderr
    )
    imported = bench.home.say("verdicts", "import", "judged", "annotations.json")
    assert imported.returncode == 0, imported.stderr
    again = bench.home.say("verdicts", "import", "judged", "annotations.json")
    assert "imported: 0 verdicts of panel" in again.stdout
    succeed(graph.run("cells", "benchmark_scores", key=CELL))
    scores = graph.store.read_table("benchmark_scores", CELL).table.to_pylist()
    found = sorted(row["score"] for row in scores if row["metric"] == "win_rate" and row["training_seed"] == 0)
    assert found == pytest.approx([place / 10 for place in range(8)])


def _alpaca_rows(path: Path) -> list[dict[str, Any]]:
    import gzip

    return [json.loads(line) for line in gzip.open(path, "rt")]


def test_the_base_is_scored_by_the_same_questions(bench: Bench) -> None:
    graph = bench.variant(MMLU, BBH)
    succeed(graph.run("pool", "base_scores"))
    base = graph.store.read_table("base_scores").table.to_pylist()
    succeed(graph.run("cells", "benchmark_scores", key=CELL))
    cell = graph.store.read_table("benchmark_scores", CELL).table.to_pylist()
    assert {(row["item_id"], row["prompt_hash"]) for row in base} == {
        (row["item_id"], row["prompt_hash"]) for row in cell
    }


@pytest.mark.full
def test_the_reports_answer_and_curve_stand_in_its_metadata(bench: Bench) -> None:
    graph = bench.variant(BBH)
    succeed(graph.run("cells", "benchmark_scores", key=CELL))
    result = graph.run("report", "strategy_report")
    succeed(result)
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert "**The paper’s claims** (0 of 2 testable)" in str(metadata["summary"].value)
    assert str(metadata["picture"].value).startswith("![strategy_report](data:image/png;base64,iVBOR")
    assert str(metadata["report"].value).endswith("report/index.html")
    page = (bench.home.folder / "results/judged/report/index.html").read_text()
    assert "Prompts that they choose" not in page  # one strategy's list alone is no comparison
