"""Tasks of lm-eval in a user's folder: each kind of task, rejected tasks, and the identity of tasks."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskdiv_assets.benchmarks import Scored, Scorer, expected_items, settings_identity
from taskdiv_assets.benchmarks.answering import Answer
from taskdiv_assets.benchmarks.encoding import Encoder
from taskdiv_assets.benchmarks.harness import folder_sha256, suite
from taskdiv_assets.benchmarks.questions import questions
from taskdiv_assets.experiment.benchmark_settings import HarnessBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.loading import LanguageModel, load
from taskdiv_assets.language_model.quiet import quiet_harness
from tests.benchmark_tasks.scoring import score_base

pytestmark = pytest.mark.xdist_group("own_tasks")
POOL = Pool(reader="lab", tasks=["first", "last", "max", "upper"], largest_n=40, smallest_n=10)
ANIMALS = [
    {
        "question": f"Lily saw a {size} {animal}. It was",
        "choices": [" big", " very small", " a toy"],
        "answer": place % 3,
    }
    for place, (size, animal) in enumerate(
        (size, animal) for size in ("big", "red") for animal in ("dog", "cat", "bird")
    )
]
SUMS = [{"question": f"{a} + {b} =", "answer": str(a + b)} for a in range(3) for b in range(3)]
CHOICE: dict[str, Any] = {
    "task": "own_animals",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
WRITTEN: dict[str, Any] = {
    "task": "own_sums",
    "output_type": "generate_until",
    "doc_to_text": "Q: {{question}}\nA:",
    "doc_to_target": "answer",
    "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 6},
    "metric_list": [{"metric": "exact_match"}],
    "filter_list": [
        {"name": "first", "filter": [{"function": "regex", "regex_pattern": "(\\d+)"}, {"function": "take_first"}]},
        {
            "name": "last",
            "filter": [
                {"function": "regex", "regex_pattern": "(\\d+)", "group_select": -1},
                {"function": "take_first"},
            ],
        },
    ],
}


def add(folder: Path, like: dict[str, Any], rows: list[dict[str, Any]], **changes: Any) -> None:
    """Write the YAML file of a task and its data. The YAML file names the data by an absolute path."""
    task = like | changes
    data = folder / f"{task['task']}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(where | task))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tasks")
    add(made, CHOICE, ANIMALS)
    add(made, WRITTEN, SUMS)
    shots = {"num_fewshot": 2, "fewshot_split": "test"}  # drawn at random, as most of lm-eval's tasks do
    add(made, CHOICE, ANIMALS, task="own_shots", **shots)
    add(made, WRITTEN, SUMS, task="own_beams", generation_kwargs={"until": ["\n"], "num_beams": 2, "max_gen_toks": 4})
    add(made, WRITTEN, SUMS, task="own_drawn", generation_kwargs={"until": ["\n"], "do_sample": True})
    add(made, WRITTEN, SUMS, task="own_warm", generation_kwargs={"until": ["\n"], "temperature": 0.7})
    rolling = {"output_type": "loglikelihood_rolling", "metric_list": [{"metric": "word_perplexity"}]}
    add(made, WRITTEN, SUMS, task="own_perplexity", filter_list=None, generation_kwargs=None, **rolling)
    group = {"group": "own_group", "task": ["own_animals", "own_sums"]}
    (made / "group.yaml").write_text(yaml.safe_dump(group))
    return made


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Put the cache of `datasets` into a temporary folder."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        datasets.disable_progress_bars()
        yield
        datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> LanguageModel:
    return load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")


def benchmark(folder: Path, **settings: Any) -> HarnessBenchmark:
    some = {"name": "own_animals", "folder": str(folder), "metrics": ("acc",)}
    return HarnessBenchmark.model_validate(some | settings)


def scores(scored: Scored, metric: str) -> list[float]:
    return [row["score"] for row in scored.table.to_pylist() if row["metric"] == metric]


def by_lm_eval(lm: LanguageModel, folder: Path, tasks: list[str], **settings: Any) -> dict[str, Any]:
    """Return the result of lm-eval's own function for the same model."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with quiet_harness():
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        found: dict[str, Any] = simple_evaluate(
            model=Encoder(lm).harness,
            tasks=tasks,
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=True,
            **settings,
        )
    return found


def test_scores_are_those_of_lm_eval_itself(stories: LanguageModel, folder: Path) -> None:
    """Every item of three tasks, one of them with worked examples that are drawn: prompts, answers, metrics and hashes."""
    names = ["own_animals", "own_shots", "own_sums"]
    expected = by_lm_eval(stories, folder, names)
    for name, metrics in (
        ("own_animals", ("acc", "acc_norm")),
        ("own_shots", ("acc", "acc_norm")),
        ("own_sums", ("exact_match,first", "exact_match,last")),
    ):
        settings = benchmark(folder, name=name, metrics=metrics)
        scored = score_base(stories, settings, pool=POOL)
        assert scored.table.num_rows == expected_items(settings, POOL)
        rows = {(row["item_id"], row["metric"]): row for row in scored.table.to_pylist()}
        samples = expected["samples"][name]
        assert len(rows) == len({sample["doc_hash"] for sample in samples}) * len(metrics) == scored.table.num_rows
        for sample in samples:
            for metric in metrics:
                short, _, reader = metric.partition(",")
                if reader and sample["filter"] != reader:
                    continue
                row = rows[sample["doc_hash"], metric]
                assert (row["score"], row["prompt_hash"]) == (float(sample[short]), sample["prompt_hash"])


def test_two_metrics_of_one_answer_may_differ(folder: Path, stories: LanguageModel) -> None:
    """acc_norm divides by the answer's characters: scripted, so that a long answer wins by it alone."""
    scorer = Scorer(stories, benchmark(folder, metrics=("acc", "acc_norm")), pool=POOL)
    likely = {" big": -4.0, " very small": -5.0, " a toy": -40.0}
    answers = {key: Answer(None, likely[one.args[1]], False) for key, one in scorer.questions.requests.items()}
    scored = scorer.scored(answers)
    by_item = sorted(scorer.questions.items, key=lambda item: item.item_id)
    assert scores(scored, "acc") == [float(item.doc["answer"] == 0) for item in by_item]
    assert scores(scored, "acc_norm") == [float(item.doc["answer"] == 1) for item in by_item]


def test_two_filters_read_one_answer(folder: Path, stories: LanguageModel) -> None:
    metrics = ("exact_match,first", "exact_match,last")
    scorer = Scorer(stories, benchmark(folder, name="own_sums", metrics=metrics), pool=POOL)
    right = {item.keys[0]: item.doc["answer"] for item in scorer.questions.items}
    first = scorer.scored({key: Answer(f" {answer}, not 99") for key, answer in right.items()})
    assert (set(scores(first, metrics[0])), set(scores(first, metrics[1]))) == ({1.0}, {0.0})
    last = scorer.scored({key: Answer(f" not 99 but {answer}") for key, answer in right.items()})
    assert (set(scores(last, metrics[0])), set(scores(last, metrics[1]))) == ({0.0}, {1.0})
    none = scorer.scored({key: Answer(" I do not know") for key in right})
    assert none.notes.unread_n == 9 and set(scores(none, metrics[0])) == {0.0}
    assert set(last.outputs["extracted"].to_pylist()) == {"99"}  # what the first filter made of it


def test_groups_are_taken_apart(folder: Path, stories: LanguageModel) -> None:
    settings = benchmark(folder, name="mine", tasks=("own_group",), metrics=("acc",))
    loaded = suite(settings)
    assert list(loaded.task_names) == ["own_animals", "own_sums"]
    with pytest.raises(
        ValueError, match=r"benchmark 'mine', task 'own_sums' has no metric 'acc'; expected some of exact_match,"
    ):
        score_base(stories, settings, pool=POOL)
    both = benchmark(folder, name="mine", tasks=("own_animals", "own_shots"), metrics=("acc", "acc_norm"))
    table = score_base(stories, both, pool=POOL).table
    assert set(table["benchmark"].to_pylist()) == {"mine"}
    assert set(table["task"].to_pylist()) == {"own_animals", "own_shots"}
    assert table.num_rows == expected_items(both, POOL) == 24


def test_what_gives_no_score_an_item_is_refused(folder: Path, stories: LanguageModel) -> None:
    for name, message in (
        (
            "own_perplexity",
            "task 'own_perplexity' asks for loglikelihood_rolling, which scores whole texts and not items",
        ),
        ("own_drawn", r"task 'own_drawn' draws its answers at random \(do_sample\)"),
        ("own_warm", r"task 'own_warm' draws its answers at random \(do_sample\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Scorer(stories, benchmark(folder, name=name, metrics=("exact_match",)), pool=POOL)
    with pytest.raises(ValueError, match="has no metric 'exact_match'; expected some of acc, acc_norm"):
        score_base(stories, benchmark(folder, metrics=("exact_match",)), pool=POOL)
    with pytest.raises(ValueError, match="expected some of exact_match,first, exact_match,last"):
        score_base(stories, benchmark(folder, name="own_sums", metrics=("exact_match",)), pool=POOL)


@pytest.mark.full
def test_a_task_that_asks_for_beams_is_written_by_lm_eval(folder: Path, stories: LanguageModel) -> None:
    settings = benchmark(folder, name="own_beams", metrics=("exact_match,first",))
    told: list[str] = []
    outputs = Scorer(stories, settings, pool=POOL, log=told.append).score().outputs
    samples = by_lm_eval(stories, folder, ["own_beams"])["samples"]["own_beams"]
    texts = {sample["doc_hash"]: sample["resps"][0][0] for sample in samples}
    assert dict(zip(outputs["item_id"].to_pylist(), outputs["text"].to_pylist(), strict=True)) == texts
    assert len(told) == 1


@pytest.mark.full
def test_unknown_names_are_told(folder: Path) -> None:
    """lm-eval's index of all its own tasks takes seconds."""
    with pytest.raises(ValueError, match=r"lm-eval has no task 'own_animal'; did you mean 'own_animals'\?"):
        suite(benchmark(folder, name="own_animal"))
    with pytest.raises(ValueError, match="lm-eval has no task 'zqxj'; `lm_eval ls tasks` lists them"):
        suite(benchmark(folder, name="zqxj"))


def test_unknown_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of a benchmark is not there; expected a folder with lm-eval's task files"):
        suite(benchmark(tmp_path / "none"))
    with pytest.raises(ValueError, match="of a benchmark holds no YAML file"):
        settings_identity(benchmark(tmp_path), pool=POOL)


def prompts(settings: HarnessBenchmark) -> list[str]:
    return [item.requests[0].args[0] for item in questions(suite(settings), settings).items]


def test_few_shot_takes_the_place_of_what_the_task_says(folder: Path) -> None:
    def shots(**settings: Any) -> list[int]:
        return [prompt.count("Lily saw") - 1 for prompt in prompts(benchmark(folder, **settings))]

    assert shots(name="own_shots") == [2] * 6
    assert shots(name="own_shots", few_shot=0) == [0] * 6
    assert shots(name="own_shots", few_shot=4) == [4] * 6
    for prompt in prompts(benchmark(folder, name="own_shots", few_shot=4)):
        parts = prompt.split("\n\n")
        assert parts[-1] not in [
            part.rsplit(" was", 1)[0] + " was" for part in parts[:-1]
        ]  # no example is the question


def test_more_worked_examples_than_there_are_is_told(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts of task 'own_shots' \(Sample larger .* as `few_shot` says\?"):
        prompts(benchmark(folder, name="own_shots", few_shot=20))


@pytest.mark.full
def test_worked_examples_that_are_drawn_are_the_same_in_every_process(folder: Path) -> None:
    program = (
        "import sys; from tests.benchmark_tasks.test_own_tasks import *;"
        "print(hashlib.sha256(repr(prompts(benchmark(Path(sys.argv[1]), name='own_shots'))).encode()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(folder)], capture_output=True, text=True)
    here = prompts(benchmark(folder, name="own_shots"))
    assert run.stdout.strip() == hashlib.sha256(repr(here).encode()).hexdigest(), run.stderr[-500:]
    assert prompts(benchmark(folder, name="own_shots")) == here


def test_max_new_tokens_takes_the_place_of_what_the_task_says(folder: Path, stories: LanguageModel) -> None:
    metrics = ("exact_match,first",)
    for changed, expected in ((None, 6), (3, 3)):
        settings = benchmark(folder, name="own_sums", metrics=metrics, max_new_tokens=changed)
        scorer = Scorer(stories, settings, pool=POOL)
        assert {one.new_n for one in scorer.answerer.wanted.values()} == {expected}
        assert {one.stop for one in scorer.answerer.wanted.values()} == {("\n", "</s>")}
    assert prompts(benchmark(folder, max_new_tokens=5))  # multiple choice writes nothing, and stays as it is


def test_a_limit_or_a_sample_asks_less(folder: Path, stories: LanguageModel) -> None:
    both = {"name": "mine", "tasks": ("own_animals", "own_shots"), "metrics": ("acc",)}
    whole = {item.item_id for item in questions(suite(benchmark(folder)), benchmark(folder)).items}
    limited = score_base(stories, benchmark(folder, limit=2, **both), pool=POOL)
    assert limited.table.num_rows == 4 and limited.notes[:2] == (4, 12) and limited.notes.sampling_error == {}
    settings = benchmark(folder, sample=5, **both)
    sampled = score_base(stories, settings, pool=POOL)
    assert sampled.table.num_rows == expected_items(settings, POOL) == 5
    assert set(sampled.table["item_id"].to_pylist()) <= whole
    error = sampled.notes.sampling_error["acc"]
    assert error is not None and 0 <= error < 0.5


def test_identity_is_the_folder_s_content(folder: Path, tmp_path: Path) -> None:
    identity = settings_identity(benchmark(folder), pool=POOL)
    json.dumps(identity)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert settings_identity(benchmark(moved), pool=POOL) == identity
    changes: list[Callable[[], object]] = [
        lambda: (moved / "own_animals.jsonl").write_text(""),
        lambda: (moved / "utils.py").write_text("x = 1\n"),
        lambda: (moved / "utils.py").rename(moved / "other.py"),
    ]
    seen = [folder_sha256(str(moved))]
    for change in changes:
        change()
        now = folder_sha256(str(moved))
        assert now not in seen
        seen.append(now)
    (moved / "__pycache__").mkdir()
    (moved / "__pycache__" / "utils.pyc").write_bytes(b"1")
    assert folder_sha256(str(moved)) == seen[-1]
    others = [{"few_shot": 1}, {"max_new_tokens": 4}, {"limit": 2}, {"sample": 4}, {"metrics": ("acc_norm",)}]
    found = [settings_identity(benchmark(folder, **some), pool=POOL) for some in others]
    assert all(found.count(one) == 1 and one != identity for one in found)


def test_a_folder_that_changes_is_read_again(tmp_path: Path) -> None:
    add(tmp_path, CHOICE, ANIMALS)
    assert len(prompts(benchmark(tmp_path))) == 6
    for name in ("own_later", "own_last"):
        add(tmp_path, CHOICE, ANIMALS, task=name, doc_to_text=f"{name}: {{{{question}}}}")
        assert all(prompt.startswith(f"{name}: ") for prompt in prompts(benchmark(tmp_path, name=name)))
    add(tmp_path, CHOICE, ANIMALS, doc_to_text="Now: {{question}}")
    assert all(prompt.startswith("Now: ") for prompt in prompts(benchmark(tmp_path)))


def relative(folder: Path, name: str, **changes: Any) -> HarnessBenchmark:
    """Return a task whose YAML file names its data by a relative path."""
    add(folder, CHOICE, ANIMALS, task=name)
    (folder / "data").mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").rename(folder / "data" / f"{name}.jsonl")
    where = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": f"data/{name}.jsonl"}}}
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump({**CHOICE, "task": name, "test_split": "test", **where, **changes})
    )
    return benchmark(folder, name=name)


def test_relative_data_are_relative_to_the_yaml_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the current directory is, and wherever the file is that says them: as `include` and `!function` are."""
    decoy = tmp_path / "elsewhere"
    (decoy / "data").mkdir(parents=True)
    (decoy / "data" / "own_near.jsonl").write_text(json.dumps(ANIMALS[0] | {"question": "decoy"}) + "\n")
    monkeypatch.chdir(decoy)
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "utils.py").write_text("def text(doc):\n    return 'Look: ' + doc['question']\n")
    assert len(prompts(relative(folder, "own_near"))) == 6
    made = relative(folder, "own_glob", dataset_kwargs={"data_files": "data/own_g*.jsonl"}, test_split="train")
    assert len(prompts(made)) == 6
    made = relative(
        folder, "own_dir", dataset_path="data", dataset_kwargs={"data_files": "own_dir.jsonl"}, test_split="train"
    )
    assert len(prompts(made)) == 6
    (folder / "deep").mkdir()
    lines = ["include: ../own_near.yaml", "task: own_deep", "doc_to_text: !function ../utils.text"]
    (folder / "deep" / "own_deep.yaml").write_text("\n".join(lines).replace("../utils", "more") + "\n")
    (folder / "deep" / "more.py").write_text((folder / "utils.py").read_text())
    found = prompts(benchmark(folder, name="own_deep"))
    assert len(found) == 6 and all(prompt.startswith("Look: Lily saw") for prompt in found)
    (folder / "group.yaml").write_text(yaml.safe_dump({"group": "own_both", "task": ["own_near", "own_deep"]}))
    assert len(prompts(benchmark(folder, name="own_both"))) == 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset_kwargs": {"data_files": {"test": "data/none.jsonl"}}}, "names the data 'data/none.jsonl', but .* does not exist"),
        ({"dataset_kwargs": {"data_files": ["data/n*.jsonl"]}}, r"names the data 'data/n\*.jsonl', but .* does not exist"),
        ({"dataset_kwargs": {"data_files": "../outside.jsonl"}}, "which are outside the benchmark's folder .*; move them into it"),
        ({"dataset_path": "./loader.py"}, "loads its data by the script './loader.py', which `datasets` no longer runs"),
        ({"dataset_path": "./none"}, "names the data './none', but .* does not exist"),
        ({"include": "base.yaml"}, r"own_wrong.yaml includes 'base.yaml', but there is no file .*base.yaml"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_had_end_in_a_sentence(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    (tmp_path / "outside.jsonl").write_text("{}\n")
    (tmp_path / "tasks").mkdir()
    with pytest.raises(ValueError, match=said):
        suite(relative(tmp_path / "tasks", "own_wrong", **changes))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("doc_to_text: !function utils.none", "cannot be loaded: Module '.*utils.py' has no function 'none'"),
        ("doc_to_text: !function nowhere.text", "cannot be loaded: Cannot import module 'nowhere' for function 'text'"),
        ("doc_to_text: [", "own_wrong.yaml:15 is not valid YAML: while parsing"),
    ],
)
def test_files_that_lm_eval_cannot_use_are_told(tmp_path: Path, line: str, said: str) -> None:
    settings = relative(tmp_path, "own_wrong")
    (tmp_path / "utils.py").write_text("x = 1\n")
    path = tmp_path / "own_wrong.yaml"
    kept = [text for text in path.read_text().splitlines() if not text.startswith("doc_to_text")]
    path.write_text("\n".join([*kept, line]) + "\n")
    with pytest.raises(ValueError, match=f"benchmark 'own_wrong'.*{said}"):
        suite(settings)


def test_a_file_that_lm_eval_does_not_look_at_is_named(tmp_path: Path) -> None:
    settings = relative(tmp_path, "own_yml")
    (tmp_path / "own_yml.yaml").rename(tmp_path / "own_yml.yml")
    with pytest.raises(ValueError, match="lm-eval reads files that end in .yaml; rename .*own_yml.yml"):
        suite(settings)


@pytest.mark.parametrize(
    "data",
    [
        {"dataset_kwargs": {"data_files": {"test": "data/own_near.jsonl"}}},
        {"dataset_kwargs": {"data_files": {"test": ["data/own_near.jsonl"]}}},
        {"dataset_kwargs": {"data_dir": "data"}},
        {"dataset_path": "./data"},
    ],
)
def test_data_of_a_group_s_members_are_stated_in_files_of_their_own(tmp_path: Path, data: dict[str, Any]) -> None:
    relative(tmp_path, "own_near")
    member = {"task": "own_near", **data}
    (tmp_path / "group.yaml").write_text(yaml.safe_dump({"group": "own_inline", "task": [member]}))
    with pytest.raises(ValueError, match=r"group 'own_inline' .* of its member 'own_near'; give that task a YAML file"):
        suite(benchmark(tmp_path, name="own_inline"))
