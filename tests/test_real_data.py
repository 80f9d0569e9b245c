"""Small runs with real prompts, a pretrained model and real benchmark items, and the annotation loop of a user's own pool."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.home import EXPERIMENTS, Home

pytestmark = pytest.mark.xdist_group("real_data")


@pytest.mark.full
def test_dolly_with_a_real_model_from_pool_to_report(shared_data: Path, tmp_path: Path) -> None:
    home = Home(tmp_path)
    path = home.write_experiment(
        "dolly_tiny",
        ("../../../shared/data", str(shared_data)),
        ("duplicates: keep}", "duplicates: keep, sample: 96}"),
        ("max_new_tokens: 16}", "max_new_tokens: 4}"),
        ("sample: 135, max_new_tokens: 32}", "sample: 54, max_new_tokens: 4}"),
        ("sample: 285}", "sample: 114, few_shot: 0}"),
        ("budgets: [200, 1000, 3000, 10000]", "budgets: [8]"),
        source=EXPERIMENTS / "dolly_stories.yaml",
    )
    cells = ("--strategy", "random", "--strategy", "weighted_task_diversity", "--workers", "1")
    result = home.taskdiv("run", str(path), *cells)
    assert result.returncode == 0, result.stderr
    root = home.folder / "results/dolly_tiny"
    pool = pq.read_table(root / "tables/raw_pool.parquet")
    assert pool.num_rows == 96
    scores = pq.read_table(root / "tables/benchmark_scores/random/8.parquet").to_pylist()
    asked = [(row["benchmark"], row["task"]) for row in scores]
    assert len({task for name, task in asked if name == "bbh"}) == 27 and sum(name == "bbh" for name, _ in asked) == 54
    assert (
        len({task for name, task in asked if name == "mmlu"}) == 57 and sum(name == "mmlu" for name, _ in asked) == 114
    )
    page = (root / "report/index.html").read_text()
    assert "too few seeds to say" in page
    assert "Guessing scores 0.250, and no model here is separably above it" in page
    assert (
        "The benchmark asked a sample of 54 of 6,511 items, drawn by hash, equally many from each task where possible"
        in page
    )
    assert "found no answer; each counts as wrong, as is usual" in page
    assert "did not fit into the model’s context" in page
    assert home.say("contracts", "check", "dolly_tiny").returncode == 0


@pytest.fixture
def campaign(shared_data: Path, tmp_path: Path) -> Home:
    """Return a home with a user's file of prompts without answers, and a campaign over the file."""
    home = Home(tmp_path)
    with (tmp_path / "questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "topic"])
        writer.writerows([f"Tell me about {thing} {number}", topic] for topic, thing in
                         (("animals", "the dog"), ("toys", "a ball"), ("family", "Mom")) for number in range(4))  # fmt: skip
    (tmp_path / "own.yaml").write_text(
        f"""
name: own
purpose: campaign
pool: {{reader: table, path: questions.csv, columns: {{prompt: question, task: topic}}}}
base_model: {{path: {shared_data / "models/stories260K"}}}
confidence: {{max_new_tokens: 4}}
strategies: [random, task_diversity]
budgets: [3, 6]
seeds: [0, 1]
tuning: {{rank: 2, alpha: 4, learning_rate: 1.0e-3, epochs: 1, batch_size: 4, max_length: 128}}
benchmarks: [{{name: bbh, source: {shared_data / "bbh/bbh.parquet"}, tasks: [navigate], limit: 1, max_new_tokens: 2}}]
primary: {{strategy: task_diversity, benchmark: bbh, metric: exact_match}}
annotation: {{instructions: "Two sentences, please.", price: 0.5}}
"""
    )
    return home


@pytest.mark.full
def test_a_campaign_from_a_list_to_annotators_to_adapters(campaign: Home) -> None:
    home, folder = campaign, campaign.folder
    early = home.taskdiv("run", "own.yaml", "--strategy", "task_diversity", "--workers", "1")
    assert early.returncode == 0, early.stderr
    assert "3|task_diversity waits for 3 answers" in early.stderr
    assert "next: taskdiv annotations export own --budget 3 --strategy task_diversity " in early.stdout
    assert not (folder / "results/own/tables/base_scores.parquet").exists()  # no cell can be compared with it yet
    assert not (folder / "results/own/tables/adapter").exists()

    export = ("annotations", "export", "own", "--strategy", "task_diversity", "--budget")
    assert home.say(*export, "3", "-o", "nowhere/first.jsonl").returncode == 2  # not written, so not noted as sent
    assert not list((folder / "results/own").glob("exports/*"))
    assert home.say(*export, "3", "-o", "first.jsonl").returncode == 0
    first = [json.loads(line) for line in (folder / "first.jsonl").read_text().splitlines()]
    assert len(first) == 3 and len({row["task"] for row in first}) == 3  # a round robin over three tasks
    assert {row["instructions"] for row in first} == {"Two sentences, please."}
    assert home.say(*export, "6", "-o", "second.csv", "--format", "csv").returncode == 0
    with (folder / "second.csv").open(newline="", encoding="utf-8-sig") as file:
        second = list(csv.DictReader(file))
    assert len(second) == 3  # the difference only
    assert not {row["prompt_id"] for row in second} & {row["prompt_id"] for row in first}

    bad = [{**first[0], "response": 7}, {**first[1], "prompt_id": "0" * 16, "response": "x"}]
    (folder / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bad))
    refused = home.say("annotations", "import", "own", "bad.jsonl")
    assert refused.returncode == 2
    assert "nothing was imported" in refused.stderr
    assert "row 1" in refused.stderr and "row 2" in refused.stderr
    assert (folder / "bad.jsonl.problems.csv").read_text(encoding="utf-8-sig").startswith("row,prompt_id,reason\n1,")
    assert not list((folder / "results/own").glob("annotations/*"))

    answers = [{"prompt_id": row["prompt_id"], "response": "It was a nice day."} for row in first]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    assert home.say("annotations", "import", "own", "answers.jsonl").returncode == 0
    again = home.say("annotations", "import", "answers.jsonl")  # found by what was sent out
    assert again.returncode == 0 and "imported before" in again.stdout
    assert "6 prompts of own were sent out, 3 of them are answered" in home.say("annotations", "list", "own").stdout

    healthy = home.say("contracts", "check", "own")
    assert healthy.returncode == 0 and "out of date annotation_batch/6|task_diversity" in healthy.stdout, healthy.stdout
    done = home.taskdiv("run", "own", "--strategy", "task_diversity", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "6|task_diversity waits for 3 answers" in done.stderr and "3|task_diversity waits" not in done.stderr
    assert (folder / "results/own/tables/benchmark_scores/task_diversity/3.parquet").exists()
    adapters = pq.read_table(folder / "results/own/tables/adapter/task_diversity/3.parquet").to_pylist()
    assert [(row["training_seed"], row["selection_seed"], row["examples_n"]) for row in adapters] == [
        (0, 0, 3),
        (1, 0, 3),
    ]
    assert adapters[0]["sha256"] != adapters[1]["sha256"]
