"""Items of benchmarks in the pool: planted, found, warned of, and counted in each list. No model is loaded."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import yaml

import reports
from taskdiv_assets.assets import REGISTRY, contamination
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import overlap
from taskdiv_assets.services.asked_items import AskedItem
from tests.graph import Graph, failure
from tests.home import Home
from tests.pools.test_overlap import by_pairs

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("contamination_graph")]
QUESTIONS = [
    "Who built the old stone bridge over the river of this town?",
    "Why is the sky blue?",
    "Which planet is the third from the sun",
    "How many legs does a spider have?",
]
PLANTED = [
    "WHO built the old, stone bridge: over the river of this town",  # the same words
    "Please answer. Who built the old stone bridge over the river of this town? Give one name.",  # all 8-grams
    "why is the SKY blue",  # a short line, the same words
    "why is the sky blue at noon",  # a short line with more words: not a match
    "Who built the new wooden bridge over the other river of this town?",  # too few 8-grams: not a match
]
TASK = {
    "task": "ours",
    "output_type": "generate_until",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "ours.jsonl"}},
    "test_split": "test",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "answer",
    "metric_list": [{"metric": "exact_match"}],
}
EXPERIMENT = """
name: copied
pool: {reader: table, path: pool.csv, columns: {prompt: prompt, response: response, task: task}}
base_model: {hub: nobody/nothing, revision: 0123456789012345678901234567890123456789}
strategies: [random, task_diversity]
budgets: [12]
benchmarks: [{name: ours, folder: tasks, metrics: [exact_match]}, {name: held_out, per_task: 2}]
"""


STRATEGIES = ("random", "task_diversity")


class Bench:
    """Variants of one experiment over one store."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance
        (home.folder / "tasks").mkdir()
        (home.folder / "tasks/ours.yaml").write_text(yaml.safe_dump(TASK))
        self.ask(QUESTIONS)
        self.pool(PLANTED)

    def ask(self, questions: list[str]) -> None:
        rows = [json.dumps({"question": text, "answer": "yes"}) + "\n" for text in questions]
        (self.home.folder / "tasks/ours.jsonl").write_text("".join(rows))

    def pool(self, planted: list[str], answer: str = "yes") -> None:
        plain = [f"What is the {n}th word of this list of words about {n} things?" for n in range(30)]
        with (self.home.folder / "pool.csv").open("w", newline="") as file:
            rows = [(text, answer, "ab"[n % 2]) for n, text in enumerate([*planted, *plain])]
            csv.writer(file).writerows([("prompt", "response", "task"), *rows])

    def graph(self, *changes: tuple[str, str]) -> Graph:
        text = EXPERIMENT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self.home.folder / "copied.yaml"
        path.write_text(text)
        return Graph(path, self.instance)

    def compare(self, graph: Graph) -> dg.ExecuteInProcessResult:
        """Run the assets up to the comparison."""
        names = ("raw_pool", "task_labels", "annotations", "held_out_items", "contamination")
        used = REGISTRY.used(graph.experiment)
        result = graph.run("pool", *(name for name in names if name in used))
        assert result.success, failure(result)
        return result

    def page(self) -> str:
        return reports.render(str(self.home.folder / "results/copied")).html


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = Home(tmp_path_factory.mktemp("copied"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        instance.add_dynamic_partitions("copied_budget", ["12"])
        yield Bench(home, instance)


@pytest.fixture(scope="module")
def made(bench: Bench) -> tuple[Graph, dg.ExecuteInProcessResult]:
    """The experiment with planted items and its lists, and the run of the pool's assets."""
    graph = bench.graph()
    result = bench.compare(graph)
    for strategy in STRATEGIES:
        assert failure(graph.run("rankings", key=strategy)) == ""
        assert failure(graph.run("cells", "allocation", key=f"12|{strategy}")) == ""
    return graph, result


def texts_of_items(graph: Graph) -> dict[tuple[str, str], str]:
    held = graph.store.read_table("held_out_items").table.to_pylist()
    found = {("held_out", row["prompt_id"]): row["prompt"] for row in held}
    lineage, unit = graph.lineage(), Unit("contamination")
    work = contamination.Work(graph.experiment, graph.store, lineage, unit, lineage.expect(unit), str)
    asked = {(one.benchmark, one.item_id): one.text for one in contamination.asked_items(work)}
    assert found.items() <= asked.items()
    return asked


def test_every_planted_item_is_found(made: tuple[Graph, Any]) -> None:
    graph, _ = made
    prompts = {row["prompt_id"]: row["prompt"] for row in graph.store.read_table("raw_pool").table.to_pylist()}
    items = texts_of_items(graph)
    expected = {
        (benchmark, item, prompt, is_exact)
        for (benchmark, item), text in items.items()
        for prompt, written in prompts.items()
        for *_, is_exact in by_pairs([written], [text])
    }
    table = graph.store.read_table("contamination").table.to_pylist()
    assert {(row["benchmark"], row["item_id"], row["prompt_id"], row["is_exact"]) for row in table} == expected
    found = {(prompts[row["prompt_id"]], row["is_exact"]) for row in table if row["benchmark"] == "ours"}
    left = set(prompts.values())  # one of them may be a held-out item
    assert found == {(PLANTED[n], is_exact) for n, is_exact in ((0, True), (1, False), (2, True)) if PLANTED[n] in left}
    assert len(found) >= 2 and {row["task"] for row in table if row["benchmark"] == "ours"} == {"ours"}


def test_the_contract_warns_and_publishes(made: tuple[Graph, dg.ExecuteInProcessResult]) -> None:
    graph, result = made
    check = graph.checks(result)["contamination", "no_item_in_pool"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    footer = graph.store.read_footer("contamination")
    assert footer is not None
    (broken,) = [rule for rule in footer.rules if not rule.passed]
    assert broken.rule == "no_item_in_pool" and {"benchmark", "item_id", "prompt_id"} <= set(broken.examples[0])
    said = contamination.table_of_matches(footer.notes).splitlines()
    counts = footer.notes["benchmarks"]["ours"]
    assert f"| ours | 4 | {counts['matched_items_n']} | {counts['prompts_n']} | {counts['equal_prompts_n']} |" in said


def test_the_report_counts_the_chosen_prompts_that_match(made: tuple[Graph, Any], bench: Bench) -> None:
    graph, _ = made
    rows = [row for row in graph.store.read_table("contamination").table.to_pylist() if row["benchmark"] == "ours"]
    page = bench.page()
    assert f"{len({row['prompt_id'] for row in rows})} prompts of the pool match 2 of 4 items of ours (" in page
    for strategy in STRATEGIES:
        chosen = set(graph.store.read_table("allocation", f"12|{strategy}").table["prompt_id"].to_pylist())
        own = [row for row in rows if row["prompt_id"] in chosen]
        prompts_n, items_n = (len({row[name] for row in own}) for name in ("prompt_id", "item_id"))
        cells = ["12", str(prompts_n), f"{prompts_n / 12:.1%}", str(items_n)]
        numbers = "".join(f'<td class="n">{text}</td>' for text in cells)
        assert f"<bdi>ours</bdi></th><td><bdi>{strategy}</bdi></td>{numbers}" in page


def test_answers_and_templates_leave_it_fresh_and_new_items_do_not(made: tuple[Graph, Any], bench: Bench) -> None:
    def state(*changes: tuple[str, str]) -> str:
        return bench.graph(*changes).lineage().state(Unit("contamination")).status

    assert state() == "fresh"
    assert state(("benchmarks:", 'prompt_template: "Q: {prompt}"\nbenchmarks:')) == "fresh"
    assert state(("per_task: 2", "per_task: 2, drop_duplicates: true")) == "blocked"  # the pool comes first
    bench.ask([*QUESTIONS, "One more?"])
    assert state() == "stale"
    bench.ask(QUESTIONS)
    assert state() == "fresh"


def test_a_pool_without_items_passes_and_the_page_says_so(bench: Bench, made: tuple[Graph, Any]) -> None:
    bench.ask(["Is this anywhere in the pool?"])
    graph = bench.graph(("}, {name: held_out, per_task: 2}]", "}]"))
    result = bench.compare(graph)
    assert graph.checks(result)["contamination", "no_item_in_pool"].passed
    assert graph.store.read_table("contamination").table.num_rows == 0
    assert "No prompt of the pool matches an item of ours (1 item)." in bench.page()
    assert "Chosen prompts that match an item" not in bench.page()
    bench.ask(QUESTIONS)


def test_without_a_benchmark_nothing_is_compared(bench: Bench, made: tuple[Graph, Any]) -> None:
    _, *others = EXPERIMENT.splitlines()
    graph = bench.graph(*((line, "") for line in others if line.startswith(("base_model", "benchmarks"))))
    assert "contamination" not in REGISTRY.used(graph.experiment)
    assert "needs a benchmark" in REGISTRY.why_unused(graph.experiment, "contamination")
    bench.compare(graph)
    page = bench.page()
    assert "Benchmark items in the pool" not in page and "Not stored: contamination" not in page


def test_every_matching_prompt_has_a_row_though_not_every_pair() -> None:
    """All prompts and items have the same template, so every prompt of it matches every item."""
    template = "write a short answer to the question of the user in plain words and say nothing else about"
    prompts = [f"{template} {n}" for n in range(60)] + ["something else"]
    items = [AskedItem("ours", "t", str(n), f"{template} {n} please") for n in range(50)]
    items += [AskedItem("other", "t", str(n), f"{template} {n}") for n in range(30)]
    found = contamination.compared(prompts, items)
    every = set(overlap.matches(prompts, [item.text for item in items]))
    assert len(every) == 60 * 80 and set(found.rows) < every and len(set(found.rows)) == len(found.rows)
    for name, items_n in (("ours", 50), ("other", 30)):
        rows = [match for match in found.rows if items[match.item].benchmark == name]
        assert {match.text for match in rows} == set(range(60))
        assert {items[match.item].item_id for match in rows} == {str(n) for n in range(items_n)}
        assert len(rows) <= contamination.ROWS_N * (60 + items_n)
        notes = found.tallies[name].notes()
        assert (notes["items_n"], notes["matched_items_n"], notes["prompts_n"]) == (items_n, items_n, 60)
        assert (notes["matches_n"], notes["rows_n"]) == (60 * items_n, len(rows))
        assert notes["equal_prompts_n"] == (30 if name == "other" else 0)
