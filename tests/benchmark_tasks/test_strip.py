"""Answers that are wrong only because of blanks around them. They are counted, and count as right with `strip: true`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import data_contracts
from taskdiv_assets.benchmarks import Scored, Scorer, settings_identity
from taskdiv_assets.benchmarks.answering import Answer
from taskdiv_assets.experiment.benchmark_settings import BbhBenchmark, HarnessBenchmark
from taskdiv_assets.experiment.experiment_schema import schema
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.loading import LanguageModel, load
from taskdiv_assets.services.benchmarking import _compared_otherwise
from taskdiv_assets.storage.store import Store
from tests.data_contracts.contract_cases import GOOD

POOL = Pool(reader="lab")  # BBH asks nothing of the pool
TEXTS = (" False", "False", "\nFalse \t", " True", "The answer is False")  # of items whose answer is False
STOCK, STRIPPED = [0.0, 1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> LanguageModel:
    return load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with five items of one task. The answer to each item is False."""
    folder = tmp_path / "bbh"
    folder.mkdir()
    examples = [{"input": f"not ( True ) and {n}", "target": "False"} for n in range(5)]
    (folder / "boolean_expressions.json").write_text(json.dumps({"examples": examples}))
    return folder


def bbh(source: Path, **settings: object) -> BbhBenchmark:
    return BbhBenchmark.model_validate(
        {
            "name": "bbh",
            "source": str(source),
            "tasks": ["boolean_expressions"],
            "prompting": "direct",
            "max_new_tokens": 8,
        }
        | settings
    )


def scored(lm: LanguageModel, benchmark: Any, texts: tuple[str, ...] = TEXTS) -> tuple[Scorer, Scored]:
    """Return the scorer, and the scores of the given texts, one text for each item."""
    scorer = Scorer(lm, benchmark, pool=POOL)
    items = sorted(scorer.questions.items, key=lambda item: item.item_id)  # as tables have them
    answers = {item.keys[0]: Answer(text) for item, text in zip(items, texts, strict=True)}
    return scorer, scorer.scored(answers)


@pytest.mark.parametrize(("strip", "expected"), [(False, STOCK), (True, STRIPPED)])
def test_bbh_direct(stories: LanguageModel, source: Path, strip: bool, expected: list[float]) -> None:
    _, found = scored(stories, bbh(source, strip=strip))
    assert found.table["score"].to_pylist() == expected
    assert found.notes.blanks_n == 2, "counted either way: what `strip` changes, or would"
    assert found.outputs["text"].to_pylist() == list(TEXTS), "what the model said is kept as it said it"
    assert found.outputs["extracted"].to_pylist() == [text.strip() if strip else text for text in TEXTS]


def test_two_filters_are_looked_at_each(stories: LanguageModel, source: Path) -> None:
    """Zero-shot's flexible filter reads past blanks, the strict one does not."""
    _, stock = scored(stories, bbh(source, prompting="zero_shot"))
    _, bare = scored(stories, bbh(source, prompting="zero_shot", strip=True))
    table = {
        one: found.table.to_pandas().groupby("metric")["score"].sum()
        for one, found in (("stock", stock), ("bare", bare))
    }
    assert table["stock"].to_dict() == {"exact_match,flexible-extract": 4, "exact_match,strict-match": 1}
    assert table["bare"].to_dict() == {"exact_match,flexible-extract": 4, "exact_match,strict-match": 3}
    assert stock.notes.blanks_n == bare.notes.blanks_n == 2


def test_answers_without_blanks_are_the_same_either_way(stories: LanguageModel, source: Path) -> None:
    texts = ("False", "True", "", "False.", "false")
    results = [scored(stories, bbh(source, strip=strip), texts)[1] for strip in (False, True)]
    assert results[0].table.equals(results[1].table) and [one.notes.blanks_n for one in results] == [0, 0]


class TestOwnTasks:
    def folder(self, tmp_path: Path, kind: str) -> Path:
        """Return the folder of a user's own task: one that compares texts exactly, or one of multiple choice."""
        folder = tmp_path / "own"
        folder.mkdir()
        (folder / "rows.jsonl").write_text("\n".join(json.dumps({"q": f"{n}?", "a": "yes"}) for n in range(5)))
        of_kind = {
            "generate_until": "generation_kwargs: {until: ['\\n\\n'], max_gen_toks: 8}\nmetric_list: [{metric: exact_match}]",
            "multiple_choice": "doc_to_choice: ['yes', 'no']\nmetric_list: [{metric: acc}]",
        }
        (folder / "own.yaml").write_text(
            f"task: own_yes\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: rows.jsonl}}}}\ntest_split: test\n"
            f"output_type: {kind}\ndoc_to_text: '{{{{q}}}}'\ndoc_to_target: '{{{{a}}}}'\nnum_fewshot: 0\n{of_kind[kind]}\n"
        )
        return folder

    def benchmark(self, folder: Path, metric: str, **settings: object) -> HarnessBenchmark:
        return HarnessBenchmark.model_validate(
            {"name": "own_yes", "folder": str(folder), "metrics": [metric], **settings}
        )

    def test_any_task_that_compares_exactly(self, stories: LanguageModel, tmp_path: Path) -> None:
        folder, texts = self.folder(tmp_path, "generate_until"), (" yes", "yes\n", "yes", "no", " y es")
        _, stock = scored(stories, self.benchmark(folder, "exact_match"), texts)
        _, bare = scored(stories, self.benchmark(folder, "exact_match", strip=True), texts)
        assert (sum(stock.table["score"].to_pylist()), sum(bare.table["score"].to_pylist())) == (1, 3)
        assert stock.notes.blanks_n == bare.notes.blanks_n == 2

    def test_where_nothing_is_written_there_is_nothing_to_strip(self, stories: LanguageModel, tmp_path: Path) -> None:
        benchmark = self.benchmark(self.folder(tmp_path, "multiple_choice"), "acc", strip=True)
        with pytest.raises(
            ValueError, match=r"benchmark 'own_yes' has `strip: true`, but the model writes no answers in its tasks"
        ):
            Scorer(stories, benchmark, pool=POOL)


def test_only_strip_itself_changes_an_identity(source: Path) -> None:
    plain, named, strip = (
        settings_identity(bbh(source, **more), pool=POOL) for more in ({}, {"strip": False}, {"strip": True})
    )
    assert plain == named and "strip" not in plain and strip == plain | {"strip": True}
    assert "strip" not in bbh(source).model_dump() and bbh(source, strip=True).model_dump()["strip"] is True


def test_what_was_answered_is_compared_and_not_asked_again(
    stories: LanguageModel, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setenv("TASKDIV_HOME", str(tmp_path / "home"))
    stock, strip = bbh(source), bbh(source, strip=True)
    scorer, found = scored(stories, stock)
    store = Store("x")
    names = SimpleNamespace(scores=lambda folder, one: f"{folder}-{'strip' if one.strip else 'stock'}")
    said: list[str] = []
    work: Any = SimpleNamespace(store=store, lineage=SimpleNamespace(scoring=names), log=said.append)
    assert _compared_otherwise(work, scorer, strip, "adapter") == {}
    with store.scratch() as folder:
        pq.write_table(found.outputs, folder / "outputs.parquet")
        store.write_folder("adapter-stock", folder)
    known = _compared_otherwise(work, scorer, strip, "adapter")
    again = Scorer(stories, strip, pool=POOL)
    monkeypatch.setattr(again.answerer, "run", lambda known: iter([] if len(known) == 5 else [1 / 0]))
    assert again.score(known).table["score"].to_pylist() == STRIPPED
    store.put(b"PAR1 cut", "folders", "adapter-stock", "outputs.parquet")
    assert _compared_otherwise(work, scorer, strip, "adapter") == {} and "is damaged" in said[0]
    store.remove("folders", "adapter-stock", "outputs.parquet")
    assert _compared_otherwise(work, scorer, strip, "adapter") == {} and len(said) == 2


@pytest.mark.parametrize("table", ["base_scores", "benchmark_scores"])
def test_the_contract_warns_with_the_number(table: str) -> None:
    contract, good = data_contracts.load(table), GOOD[table]
    schema = contract.arrow_schema
    frame = pa.table([pa.array(good.columns[field.name], field.type) for field in schema], schema=schema)
    result = data_contracts.validate(contract, frame, {**good.parameters, "lost_to_blanks": ["bbh"] * 54})
    (rule,) = [one for one in result.rules if one.rule == "no_answer_lost_to_blanks"]
    assert not rule.passed and rule.severity == "warning" and rule.observed == "observed 54"


def test_editors_know_the_option() -> None:
    of_bbh = schema()["$defs"]["BbhBenchmark"]["properties"]["strip"]
    assert of_bbh["type"] == "boolean" and of_bbh["default"] is False and "stock task" in of_bbh["description"]
    assert "strip" in schema()["$defs"]["HarnessBenchmark"]["properties"]
    assert "strip" not in schema()["$defs"]["MmluBenchmark"]["properties"]
