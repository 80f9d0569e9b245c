"""The benchmark `mmlu`: its prompts, its settings, and scores that are computed a second time without lm-eval."""

from __future__ import annotations

import csv
import functools
import io
import random
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from taskdiv_assets.benchmarks import mmlu
from taskdiv_assets.benchmarks.mmlu_source import SUBJECTS
from taskdiv_assets.benchmarks.tasks import Suite, stock_folder
from taskdiv_assets.experiment.benchmark_settings import MmluBenchmark
from taskdiv_assets.language_model.quiet import quiet_harness

TWO = ["abstract_algebra", "marketing"]


@pytest.fixture(scope="session")
def rows_file(shared_data: Path) -> Path:
    return shared_data / "mmlu" / "mmlu.parquet"


@pytest.fixture
def fast_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile each template once instead of once for each text. For all of MMLU, this takes 3 s instead of 83 s."""
    from lm_eval import utils

    monkeypatch.setattr(utils.env, "from_string", functools.cache(utils.env.from_string))


def benchmark(source: Path | str, **settings: object) -> MmluBenchmark:
    return MmluBenchmark.model_validate({"name": "mmlu", "source": str(source), "tasks": TWO} | settings)


def cells_of(archive_file: Path) -> dict[str, list[list[str]]]:
    """Return the rows of each CSV file by name, read without our code."""
    cells = {}
    with tarfile.open(archive_file) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            cells[member.name] = list(csv.reader(io.StringIO(file.read().decode(), newline="")))
    return cells


def prompts_of(settings: MmluBenchmark) -> list[str]:
    """Return the text of each question, without a copy for each letter."""
    prompts = []
    with quiet_harness():
        for task in mmlu.suite(settings).task_dict["tasks"].values():
            task.build_all_requests(limit=settings.limit)
            prompts += [request.args[0] for request in task.instances if request.idx == 0]
    return prompts


def test_a_prompt_is_the_paper_s(rows_file: Path) -> None:
    """Hendrycks et al.: a headline, the subject's examples in their order, the question, and `Answer:` without a blank."""
    headline = "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    example = "Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer: B\n\n"
    question = (
        "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.\n"
        "A. 0\nB. 4\nC. 2\nD. 6\nAnswer:"
    )
    one = {"limit": 1, "tasks": TWO[:1]}
    for few_shot, middle in ((0, ""), (1, example)):
        assert prompts_of(benchmark(rows_file, few_shot=few_shot, **one)) == [headline + middle + question]
    (five,) = prompts_of(benchmark(rows_file, **one))
    assert five.startswith(headline + example) and five.endswith("\n\n" + question)
    dev = cells_of(rows_file.with_name("mmlu_csv.tar.gz"))["dev/abstract_algebra_dev.csv"]
    assert re.findall(r"\nAnswer:(.*)", five) == [*(f" {row[5]}" for row in dev), ""]


def test_the_suite_names_subjects_and_carries_ids(rows_file: Path) -> None:
    suite = mmlu.suite(benchmark(rows_file))
    assert suite.benchmark == "mmlu"
    assert suite.task_names == {"mmlu_abstract_algebra": "abstract_algebra", "mmlu_marketing": "marketing"}
    ids = suite.item_ids["marketing"]
    assert ids is not None and (len(ids), ids[0]) == (234, "mmlu-test-marketing-0")
    assert mmlu.suite(benchmark(rows_file.with_name("mmlu_csv.tar.gz"))).item_ids == dict.fromkeys(TWO)


def test_every_subject_is_one_of_the_stock_files() -> None:
    stock = {path.stem.removeprefix("mmlu_") for path in stock_folder("mmlu", "default").glob("[!_]*.yaml")}
    assert stock == set(SUBJECTS)


def test_sizes_are_counted_without_a_model(rows_file: Path) -> None:
    assert mmlu.task_sizes(benchmark("hub", tasks=None)) == SUBJECTS
    assert mmlu.task_sizes(benchmark(rows_file, tasks=None)) == SUBJECTS
    assert mmlu.task_sizes(benchmark("hub")) == {"abstract_algebra": 100, "marketing": 234}


def test_identity_is_the_content_and_not_the_place(rows_file: Path, tmp_path: Path) -> None:
    identity = mmlu.settings_identity(benchmark(rows_file))
    moved = tmp_path / "moved"
    moved.write_bytes(rows_file.read_bytes())
    assert mmlu.settings_identity(benchmark(moved, tasks=TWO[::-1])) == identity
    assert {key: value for key, value in identity.items() if key != "source"} == {
        "name": "mmlu",
        "tasks": TWO,
        "limit": None,
        "sample": None,
        "few_shot": 5,
        "task_version": "1.0",
    }
    changes: list[dict[str, object]] = [{"limit": 3}, {"sample": 9}, {"few_shot": 4}, {"tasks": TWO[:1]}]
    others = [benchmark(rows_file, **change) for change in changes] + [benchmark("hub")]
    assert identity not in [mmlu.settings_identity(other) for other in others]


def test_mistakes_are_told_in_one_sentence() -> None:
    for tasks, message in [
        (["abstract_algebr"], "unknown MMLU subject 'abstract_algebr'; did you mean 'abstract_algebra'?"),
        (["zzz"], "unknown MMLU subject 'zzz'; expected some of abstract_algebra, anatomy, "),
        (["virology", "anatomy", "virology"], "MMLU subject 'virology' occurs twice in `tasks`; name each once"),
    ]:
        with pytest.raises(ValueError, match=message):
            mmlu.task_sizes(benchmark("hub", tasks=tasks))
    with pytest.raises(ValidationError, match="less than or equal to 5"):
        benchmark("hub", few_shot=6)


def scores_of(suite: Suite, is_likely: Callable[[Any, int], bool], rng: random.Random) -> dict[str, dict[int, float]]:
    """Return the accuracy of each question by subject, computed by lm-eval's task objects alone.

    The requests are answered in random order, as by a model that sorts them by length.
    """
    requests = []
    with quiet_harness():
        for task in suite.task_dict["tasks"].values():
            task.build_all_requests()
            requests += task.instances
    for request in rng.sample(requests, len(requests)):
        request.resps = [(-1.0 if is_likely(request.doc, request.idx) else -2.0, False)]
    scores: dict[str, dict[int, float]] = {}
    for name, task in suite.task_dict["tasks"].items():
        task.apply_filters()
        by_question = defaultdict(list)
        for request in rng.sample(task.instances, len(task.instances)):
            by_question[request.doc_id].append(request)
        scores[suite.task_names[name]] = {
            question: task.process_results(
                four[0].doc, [one.filtered_resps["none"] for one in sorted(four, key=lambda one: one.idx)]
            )["acc"]
            for question, four in by_question.items()
        }
    return scores


@pytest.mark.full
def test_scripted_answers_score_what_the_csv_files_say(rows_file: Path, fast_templates: None) -> None:
    suite = mmlu.suite(benchmark(rows_file, tasks=None, few_shot=0))
    files = cells_of(rows_file.with_name("mmlu_csv.tar.gz"))
    letters = {name: Counter(row[5] for row in files[f"test/{name}_test.csv"]) for name in SUBJECTS}
    rng = random.Random(0)
    for letter in "AD":
        scores = scores_of(suite, lambda _doc, choice, letter=letter: "ABCD"[choice] == letter, rng)
        assert {name: sum(one.values()) for name, one in scores.items()} == {
            name: count[letter] for name, count in letters.items()
        }
        assert {name: len(one) for name, one in scores.items()} == SUBJECTS
    right = scores_of(suite, lambda doc, choice: choice == doc["answer"], rng)
    assert {score for one in right.values() for score in one.values()} == {1.0}
    wrong = scores_of(suite, lambda doc, choice: choice == (doc["answer"] + 1) % 4, rng)
    assert {score for one in wrong.values() for score in one.values()} == {0.0}


def test_of_equally_likely_answers_the_first_counts(rows_file: Path) -> None:
    """lm-eval takes the first of equal log-likelihoods: a model that is indifferent scores the share of A."""
    (task,) = mmlu.suite(benchmark(rows_file, tasks=TWO[:1])).task_dict["tasks"].values()
    scores = [task.process_results(doc, [(-1.0, False)] * 4)["acc"] for doc in task.eval_docs]
    assert scores == [float(doc["answer"] == 0) for doc in task.eval_docs]
