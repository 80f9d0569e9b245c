"""BBH with its real rows and a real pretrained model. The model is tiny, so prompts are cut and answers are wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taskdiv_assets.benchmarks import Scorer, bbh, expected_items, settings_identity
from taskdiv_assets.benchmarks.bbh_source import SIZES
from taskdiv_assets.benchmarks.tasks import stock_folder
from taskdiv_assets.experiment.benchmark_settings import BbhBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.loading import LanguageModel, load
from tests.benchmark_tasks.scoring import score, score_base

POOL = Pool(reader="lab")  # BBH asks nothing of the pool
TWO = ["boolean_expressions", "word_sorting"]


def benchmark(source: Path | str, **settings: object) -> BbhBenchmark:
    """Return settings for two items of each of two tasks."""
    return BbhBenchmark.model_validate(
        {"name": "bbh", "source": str(source), "tasks": TWO, "limit": 2, "max_new_tokens": 8} | settings
    )


@pytest.fixture(scope="session")
def rows_file(shared_data: Path) -> Path:
    return shared_data / "bbh" / "bbh.parquet"


@pytest.fixture
def stories(shared_data: Path) -> LanguageModel:
    return load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")


@pytest.fixture
def json_folder(rows_file: Path, tmp_path: Path) -> Path:
    """Return a folder with the rows of two tasks in the format of the original JSON files."""
    rows = pq.read_table(rows_file).to_pylist()
    for name in TWO:
        examples = [{"input": row["input"], "target": row["target"]} for row in rows if row["task"] == name]
        (tmp_path / f"{name}.json").write_text(json.dumps({"canary": "…", "examples": examples}))
    return tmp_path


def prompts_of(settings: BbhBenchmark) -> dict[str, list[tuple[str, object]]]:
    """Return the text and the generation settings of each request, by lm-eval's task name."""
    tasks = bbh.suite(settings).task_dict["tasks"]
    for task in tasks.values():
        task.build_all_requests(limit=settings.limit)
    return {name: [request.args for request in task.instances] for name, task in tasks.items()}


def test_real_rows_are_scored_and_counted(
    stories: LanguageModel, rows_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings, seen = benchmark(rows_file), []
    capfd.readouterr()
    scored = Scorer(stories, settings, pool=POOL).score(progress=lambda done, total: seen.append((done, total)))
    table = scored.table
    assert capfd.readouterr() == ("", "")
    assert seen[-1] == (4, 4)
    assert table.num_rows == expected_items(settings, POOL) == 4
    assert table["item_id"].to_pylist() == [f"bbh-{task}-{row}" for task in TWO for row in (0, 1)]
    assert table["task"].to_pylist() == [TWO[0], TWO[0], TWO[1], TWO[1]]
    assert set(table["score"].to_pylist()) <= {0.0, 1.0}
    lengths = [
        len(stories.tokenizer(text)["input_ids"]) for asked in prompts_of(settings).values() for text, _ in asked
    ]
    assert scored.notes.cut_prompts_n == sum(length > 512 - 8 for length in lengths) > 0
    assert scored.more["written_n"] == 4 and 0 < scored.more["cut_answers_n"] <= 4


def test_the_stock_prompt_extraction_and_metric_apply(stories: LanguageModel, tmp_path: Path) -> None:
    """lm-eval extracts "[invalid]" from text without "the answer is": a row with that target is scored right."""
    examples = [{"input": "True is", "target": target} for target in ("[invalid]", "True", "[invalid]")]
    (tmp_path / "boolean_expressions.json").write_text(json.dumps({"examples": examples}))
    settings = benchmark(tmp_path, tasks=TWO[:1], limit=None)
    rows = score_base(stories, settings, pool=POOL).table.to_pylist()
    assert sorted(row["score"] for row in rows) == [0.0, 1.0, 1.0]
    assert len({row["item_id"] for row in rows}) == 3  # equal rows are kept apart
    ((text, generation), *_) = prompts_of(settings)["bbh_cot_fewshot_boolean_expressions"]
    assert text.startswith(
        "Evaluate the result of a random Boolean expression.\n\nQ: not ( ( not not True ) ) is\nA: Let's"
    )
    assert text.endswith("So the answer is True.\n\nQ: True is\nA: Let's think step by step.\n")
    assert text.count("Q: ") == 4
    assert generation == {"max_gen_toks": 8, "until": ["</s>", "Q", "\n\n"], "do_sample": False, "temperature": 0.0}


def test_parquet_json_and_hub_ask_the_same(
    rows_file: Path, json_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's data set is stood in for by a folder of its name, which `datasets` reads by the stock YAML itself."""
    import datasets

    for name in TWO:
        rows = pq.read_table(rows_file, filters=[("task", "=", name)]).select(["input", "target"])
        (tmp_path / "SaylorTwift" / "bbh" / name).mkdir(parents=True)
        pq.write_table(rows, tmp_path / "SaylorTwift" / "bbh" / name / "test-0.parquet")
    configs = [
        {"config_name": name, "data_files": [{"split": "test", "path": f"{name}/test-0.parquet"}]} for name in TWO
    ]
    (tmp_path / "SaylorTwift" / "bbh" / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hub = prompts_of(benchmark("hub", limit=25))
    assert [len(asked) for asked in hub.values()] == [25, 25]
    assert prompts_of(benchmark(rows_file, limit=25)) == hub
    assert prompts_of(benchmark(json_folder, limit=25)) == hub


def test_ids_without_a_column_are_hashes_that_follow_the_content(
    stories: LanguageModel, rows_file: Path, json_folder: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(rows_file).drop_columns(["id"]), bare)
    tables = [score_base(stories, benchmark(source), pool=POOL).table for source in (bare, json_folder)]
    assert tables[0] == tables[1]
    assert all(len(item_id) == 64 for item_id in tables[0]["item_id"].to_pylist())


@pytest.mark.full
def test_adapters_in_one_call_equal_each_after_a_fresh_load(
    stories: LanguageModel, shared_data: Path, rows_file: Path, make_adapter: Callable[[Path, int], Path]
) -> None:
    base = shared_data / "models" / "stories260K"
    adapters = {seed: make_adapter(base, seed) for seed in (0, 1)}
    settings = benchmark(rows_file)
    before = score_base(stories, settings, pool=POOL)
    together = score(stories, adapters, settings, pool=POOL)
    for seed, folder in adapters.items():
        fresh = load(base, dtype="float32", attention="sdpa")
        assert score(fresh, {seed: folder}, settings, pool=POOL)[seed] == together[seed]
    assert score_base(stories, settings, pool=POOL) == before


def test_sizes_are_those_of_the_published_files(rows_file: Path) -> None:
    assert bbh.task_sizes(benchmark(rows_file, tasks=None)) == SIZES
    assert bbh.task_sizes(benchmark("hub")) == dict.fromkeys(TWO, 250)
    assert sum(SIZES.values()) == 6511
    assert expected_items(benchmark("hub", tasks=None, limit=None), POOL) == 6511
    assert expected_items(benchmark("hub", tasks=["penguins_in_a_table", "snarks"], limit=150), POOL) == 146 + 150


@pytest.mark.parametrize("folder", ["cot_fewshot", "fewshot", "zeroshot"])
def test_every_task_is_one_of_the_stock_files(folder: str) -> None:
    stock = {path.stem for path in stock_folder("bbh", folder).glob("[!_]*.yaml")}
    assert stock == set(SIZES)


def test_each_way_of_prompting_has_its_stock_prompt(rows_file: Path) -> None:
    settings = {"tasks": TWO[:1], "limit": 1}
    question = "Q: not ( True ) and ( True ) is\nA:"
    asked = {}
    for prompting in ("direct", "zero_shot"):
        (((text, generation),),) = prompts_of(benchmark(rows_file, prompting=prompting, **settings)).values()
        assert text.startswith("Evaluate the result of a random Boolean expression.\n\nQ: ") and text.endswith(question)
        asked[prompting] = (text.count("Q: "), text.count("think step by step"), generation)
    rest = {"max_gen_toks": 8, "do_sample": False, "temperature": 0.0}
    assert asked == {
        "direct": (4, 0, rest | {"until": ["</s>", "Q", "\n\n"]}),
        "zero_shot": (1, 0, rest | {"until": ["</s>", "Q:", "<|im_end|>"]}),
    }


def test_identity_is_the_content_and_not_the_place(rows_file: Path, json_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.parquet"
    shutil.copy(rows_file, moved)
    identity = settings_identity(benchmark(rows_file), pool=POOL)
    assert settings_identity(benchmark(moved), pool=POOL) == identity
    assert (identity["task_version"], identity["prompting"]) == ("4.0", "chain_of_thought")
    assert "batch_size" not in identity
    versions = {
        prompting: settings_identity(benchmark(rows_file, prompting=prompting), pool=POOL)["task_version"]
        for prompting in ("direct", "zero_shot")
    }
    assert versions == {"direct": "2.0", "zero_shot": "3.0"}
    repacked = tmp_path / "repacked.parquet"
    pq.write_table(pq.read_table(rows_file), repacked, compression="gzip")
    assert settings_identity(benchmark(repacked), pool=POOL) == identity
    changes: list[dict[str, object]] = [
        {"prompting": "direct"},
        {"prompting": "zero_shot"},
        {"limit": 3},
        {"max_new_tokens": 9},
        {"tasks": TWO[:1]},
    ]
    others = [benchmark(rows_file, **change) for change in changes] + [benchmark("hub"), benchmark(json_folder)]
    assert identity not in [settings_identity(other, pool=POOL) for other in others]
    before = settings_identity(benchmark(json_folder), pool=POOL)
    (json_folder / "word_sorting.json").write_text('{"examples": [{"input": "b a", "target": "a b"}]}')
    assert settings_identity(benchmark(json_folder), pool=POOL) != before


def test_mistakes_are_told_in_one_sentence(stories: LanguageModel, rows_file: Path, tmp_path: Path) -> None:
    def parquet(name: str, **columns: Sequence[str | None]) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    text = tmp_path / "text.parquet"
    text.write_text("not Parquet")
    (tmp_path / "word_sorting.json").write_text('[{"input": "a"}]')
    (tmp_path / "snarks.json").write_text('{"examples": []}')
    row = {"task": ["word_sorting"] * 2, "input": ["b a"] * 2, "target": ["a b"] * 2}
    one = {"tasks": ["word_sorting"]}
    for settings, message in [
        (benchmark(tmp_path / "none"), "no source at '.*none'; expected `hub`, a Parquet file"),
        (benchmark(rows_file, tasks=["word_sort"]), "unknown BBH task 'word_sort'; did you mean 'word_sorting'"),
        (benchmark(rows_file, tasks=["snarks", "snarks"]), "BBH task 'snarks' occurs twice in `tasks`"),
        (benchmark(text), "is not a Parquet file"),
        (benchmark(parquet("a.parquet", task=["x"], question=["y"])), "no column input, target; it has task, question"),
        (benchmark(parquet("b.parquet", **row)), "no rows of task boolean_expressions; name the `tasks`"),
        (benchmark(parquet("c.parquet", **row | {"id": ["1", "1"]}), **one), "id '1' occurs twice"),
        (benchmark(parquet("d.parquet", **row | {"target": ["a", None]}), **one), "row 1: expected text"),
        (benchmark(tmp_path), "has no file boolean_expressions.json"),
        (benchmark(tmp_path, **one), "word_sorting.json in .* is not as expected"),
        (benchmark(tmp_path, tasks=["snarks"]), "snarks.json in .* is not as expected: .* at least one"),
    ]:
        with pytest.raises(ValueError, match=message):
            expected_items(settings, POOL)
        with pytest.raises(ValueError, match=message):
            score_base(stories, settings, pool=POOL)
    with pytest.raises(ValueError, match="`max_new_tokens` of the benchmark is 512, but the model reads 512 tokens"):
        score_base(stories, benchmark(rows_file, max_new_tokens=512), pool=POOL)
