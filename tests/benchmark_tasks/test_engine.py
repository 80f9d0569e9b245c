"""From the questions of a benchmark to its table: comparisons with lm-eval, adapters, interruptions, scripted answers."""

from __future__ import annotations

import csv
import functools
import io
import math
import random
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from taskdiv_assets.benchmarks import Scored, Scorer
from taskdiv_assets.benchmarks.adapters import loaded_adapters
from taskdiv_assets.benchmarks.answering import Answer, Answerer, Answers
from taskdiv_assets.benchmarks.encoding import Encoder
from taskdiv_assets.benchmarks.mmlu_source import SUBJECTS
from taskdiv_assets.experiment.benchmark_settings import BbhBenchmark, LabBenchmark, MmluBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model import batching
from taskdiv_assets.language_model.loading import LanguageModel, load
from taskdiv_assets.language_model.quiet import quiet_harness

pytestmark = pytest.mark.xdist_group("engine")
POOL = Pool(reader="lab", tasks=["first", "last", "max", "upper"], largest_n=40, smallest_n=10)
Load = Callable[[], LanguageModel]


@pytest.fixture(scope="module")
def load_stories(shared_data: Path) -> Load:
    """Return a function that loads a real model. Its context of 512 tokens is too short for many prompts."""
    return lambda: load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")


@pytest.fixture(scope="module")
def stories(load_stories: Load) -> LanguageModel:
    return load_stories()


@pytest.fixture(scope="module")
def story_adapters(shared_data: Path, make_adapter: Callable[[Path, int], Path]) -> dict[int, Path]:
    return {seed: make_adapter(shared_data / "models" / "stories260K", seed) for seed in (3, 7)}


def mmlu_of(shared_data: Path, **settings: object) -> MmluBenchmark:
    source = str(shared_data / "mmlu" / "mmlu.parquet")
    some = {"name": "mmlu", "source": source, "tasks": ["astronomy", "virology"], "few_shot": 2, "limit": 3}
    return MmluBenchmark.model_validate(some | settings)


def bbh_of(shared_data: Path, **settings: object) -> BbhBenchmark:
    source = str(shared_data / "bbh" / "bbh.parquet")
    some = {"name": "bbh", "source": source, "tasks": ["navigate", "word_sorting"], "prompting": "direct", "limit": 8}
    return BbhBenchmark.model_validate(some | {"max_new_tokens": 6} | settings)


@pytest.fixture(scope="module", params=["mmlu", "bbh"])
def benchmark(request: pytest.FixtureRequest, shared_data: Path) -> MmluBenchmark | BbhBenchmark:
    return mmlu_of(shared_data) if request.param == "mmlu" else bbh_of(shared_data)


def request(kind: str, *args: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(kind, {}, args, 0)


def by_lm_eval(lm: LanguageModel, requests: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the responses of lm-eval's own loop, one request at a time."""
    some = {key: one for key, one in requests.items() if one.request_type == kind}
    with quiet_harness():
        harness = Encoder(lm).harness
        return dict(zip(some, getattr(harness, kind)(list(some.values()), disable_tqdm=True), strict=True))


def answered(lm: LanguageModel, requests: Mapping[str, Any], **settings: Any) -> Answers:
    found: Answers = {}
    for some in Answerer(lm, requests, **settings).run({}):
        assert not found.keys() & some.keys()
        found |= some
    assert found.keys() == requests.keys()
    return found


def assert_as_lm_eval(lm: LanguageModel, requests: Mapping[str, Any], found: Answers) -> None:
    for key, (nats, is_greedy) in by_lm_eval(lm, requests, "loglikelihood").items():
        assert found[key].nats == pytest.approx(nats, rel=1e-5, abs=2e-5)  # float32 in other shapes
        assert found[key].is_greedy == is_greedy
    for key, text in by_lm_eval(lm, requests, "generate_until").items():
        assert found[key].text == text


def test_a_benchmark_s_answers_are_those_of_lm_eval(
    stories: LanguageModel, benchmark: MmluBenchmark | BbhBenchmark
) -> None:
    scorer = Scorer(stories, benchmark, pool=POOL)
    assert 0 < len(scorer.answerer.cut) < scorer.questions_n or benchmark.name == "bbh"
    assert_as_lm_eval(stories, scorer.questions.requests, answered(stories, scorer.questions.requests))


STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she"


def odd_requests() -> dict[str, Any]:
    """Return requests of kinds that the real benchmarks do not contain."""
    some = [
        request("loglikelihood", "", " Once upon a time"),
        request("loglikelihood", "", "<s>Once"),
        request("loglikelihood", STORY, " saw a big dog."),
        request("loglikelihood", STORY + " ", "saw a cat."),  # the blank belongs to the answer
        request("loglikelihood", STORY + "\n\n", "The"),
        request("loglikelihood", "<s>" + STORY, " saw"),  # no second BOS
        request("loglikelihood", STORY * 20, " saw a big dog."),
        request("loglikelihood", "Dog", STORY * 2),
        request("generate_until", STORY, {"until": ["."], "max_gen_toks": 30}),
        request("generate_until", STORY, {"until": [".", "\n\n", " and", " the park"], "max_gen_toks": 60}),
        request("generate_until", STORY + " saw a", {"until": " to", "max_gen_toks": 30, "do_sample": False}),
        request("generate_until", STORY, {"until": ["é", "日本", "\n"], "max_gen_toks": 40, "temperature": 0.0}),
        request("generate_until", STORY * 20, {"until": [], "max_new_tokens": 25}),
        request("generate_until", "<s>" + STORY, {"until": ["</s>"], "max_gen_toks": 20}),
        request("generate_until", "", {"until": ["."], "max_gen_toks": 20}),
        request("generate_until", "The end.", {"until": ["zzz"], "max_gen_toks": 120}),
    ]
    return {str(place): one for place, one in enumerate(some)}


@pytest.mark.full
def test_odd_requests_are_answered_as_by_lm_eval(stories: LanguageModel) -> None:
    found = answered(stories, odd_requests())
    assert_as_lm_eval(stories, odd_requests(), found)
    assert {answer.is_greedy for answer in found.values()} == {True, False, None}
    assert Answerer(stories, odd_requests()).cut == {"6", "12"}


@pytest.mark.full
def test_what_changes_greedy_decoding_is_written_by_lm_eval(stories: LanguageModel) -> None:
    """By the model's configuration, or by the task: no setting is passed over."""
    plain = {str(i): request("generate_until", STORY[: 40 + i], {"until": ["."], "max_gen_toks": 25}) for i in range(9)}
    kept, told = stories.model.generation_config.repetition_penalty, []
    before = answered(stories, plain, log=told.append)
    assert told == []
    try:
        stories.model.generation_config.repetition_penalty = 1.8
        found = answered(stories, plain, log=told.append)
        assert_as_lm_eval(stories, plain, found)
    finally:
        stories.model.generation_config.repetition_penalty = kept
    assert found != before and len(told) == 1 and "lm-eval's own loop writes" in told[0]
    beams = {
        key: request("generate_until", one.args[0], one.args[1] | {"num_beams": 3, "do_sample": False})
        for key, one in plain.items()
    }
    found = answered(stories, beams, log=told.append)
    assert_as_lm_eval(stories, beams, found)
    assert found != before and len(told) == 2
    known = dict(list(found.items())[:7])
    rest = [key for some in Answerer(stories, beams).run(known) for key in some]
    assert rest == list(found)[7:]


def test_what_does_not_fit_is_told(stories: LanguageModel) -> None:
    for one, message in (
        (request("loglikelihood", "a", STORY * 20), "an answer of [0-9]+ tokens after a prompt of 2 cannot be scored"),
        (request("loglikelihood", STORY, ""), "an answer of 0 tokens"),
        (
            request("generate_until", "a", {"until": [], "max_gen_toks": 512}),
            "`max_new_tokens` of the benchmark is 512, but the model reads 512 tokens at most",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Answerer(stories, {"a": one})


def bytes_of(scored: Scored) -> tuple[bytes, bytes, Any]:
    """Return the bytes of the tables as they would be stored, and the notes."""
    import pyarrow as pa

    files = []
    for table in (scored.table, scored.outputs):
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table.combine_chunks())
        files.append(sink.getvalue())
    return files[0], files[1], scored.notes


class KilledError(Exception):
    """Error that simulates a kill."""


def test_a_run_that_is_killed_gives_the_same_bytes(
    stories: LanguageModel, benchmark: MmluBenchmark | BbhBenchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "CPU_SHAPES", batching.Shapes(rows=2, tokens=1500))
    undisturbed = bytes_of(Scorer(stories, benchmark, pool=POOL).score())
    kept: Answers = {}
    progress: list[tuple[int, int]] = []
    kills_n = 0
    while True:
        stored_n = 0

        def keep(some: Answers) -> None:
            nonlocal stored_n
            if stored_n == 1:
                raise KilledError  # what came last is not stored
            stored_n += 1
            assert not kept.keys() & some.keys(), "what was known was asked again"
            kept.update(some)

        progress.clear()
        scorer = Scorer(stories, benchmark, pool=POOL)
        try:
            scored = scorer.score(dict(kept), keep, lambda done, total: progress.append((done, total)))
            break
        except KilledError:
            kills_n += 1
    assert kills_n >= 2
    assert bytes_of(scored) == undisturbed
    assert progress[-1] == (scorer.questions_n, scorer.questions_n)
    strangers = {"0" * 32: Answer(None, -1.0, True)}  # of other settings of the benchmark
    assert bytes_of(Scorer(stories, benchmark, pool=POOL).score(kept | strangers)) == undisturbed


def test_any_known_answers_leave_the_others_as_they_were(
    stories: LanguageModel, benchmark: MmluBenchmark | BbhBenchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "CPU_SHAPES", batching.Shapes(rows=2, tokens=1500))
    scorer = Scorer(stories, benchmark, pool=POOL)
    whole = answered(stories, scorer.questions.requests)
    rng = random.Random(0)
    for share in (0.3, 0.8):
        known = {key: answer for key, answer in whole.items() if rng.random() < share}
        rest: Answers = {}
        for some in scorer.answerer.run(known):
            rest |= some
        assert rest == {key: answer for key, answer in whole.items() if key not in known}


def test_a_second_answerer_plans_the_same(stories: LanguageModel, benchmark: MmluBenchmark | BbhBenchmark) -> None:
    first, second = (Scorer(stories, benchmark, pool=POOL) for _ in range(2))
    assert list(first.questions.requests) == list(second.questions.requests)
    assert first.answerer.likelihoods.families == second.answerer.likelihoods.families
    assert first.answerer.writing.families == second.answerer.writing.families
    assert bytes_of(first.score()) == bytes_of(second.score())


@pytest.mark.full
@pytest.mark.parametrize("benchmark", ["mmlu", "bbh"], indirect=True)
def test_adapters_over_one_base_equal_a_fresh_load_of_each(
    load_stories: Load, story_adapters: dict[int, Path], benchmark: MmluBenchmark | BbhBenchmark
) -> None:
    base = bytes_of(Scorer(load_stories(), benchmark, pool=POOL).score())
    fresh: dict[int | None, Any] = {None: base}
    for seed, folder in story_adapters.items():
        lm = load_stories()
        with loaded_adapters(lm, {seed: folder}) as activate:
            activate(seed)
            fresh[seed] = bytes_of(Scorer(lm, benchmark, pool=POOL).score())
    assert len({fresh[seed][1] for seed in fresh}) == 3
    lm = load_stories()
    scorer = Scorer(lm, benchmark, pool=POOL)  # made before there is any adapter
    with loaded_adapters(lm, story_adapters) as activate:
        for seed in (3, None, 7):
            activate(seed)
            assert bytes_of(scorer.score()) == fresh[seed], seed
    assert bytes_of(scorer.score()) == base


def test_an_adapter_s_dropout_does_not_work_while_it_is_scored(
    load_stories: Load, story_adapters: dict[int, Path], shared_data: Path, tmp_path: Path
) -> None:
    import json
    import shutil

    folder = tmp_path / "dropping"
    shutil.copytree(story_adapters[3], folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_dropout": 0.5}))
    lm, benchmark = load_stories(), mmlu_of(shared_data, limit=3)
    scorer = Scorer(lm, benchmark, pool=POOL)
    found = []
    for path in (folder, story_adapters[3]):
        with loaded_adapters(lm, {0: path}) as activate:
            activate(0)
            found.append(bytes_of(scorer.score()))
    assert found[0] == found[1]


def test_the_lab_s_answers_are_those_of_each_question_alone(load_lab: Load) -> None:
    """As trained: prompt and answer part elsewhere than in lm-eval; each question alone is the second definition."""
    import torch

    lm = load_lab()
    scorer = Scorer(lm, LabBenchmark(name="lab", split="validation"), pool=POOL)
    found = answered(lm, scorer.questions.requests, as_trained=True)
    for key, one in scorer.answerer.asked.items():
        ids = torch.tensor([one.context + one.answer])
        with torch.inference_mode():
            logits = lm.model(input_ids=ids[:, :-1], use_cache=False).logits[0, len(one.context) - 1 :].double()
        target = ids[0, len(one.context) :]
        nats = float(logits.log_softmax(-1)[torch.arange(len(target)), target].sum())
        assert found[key].nats == pytest.approx(nats, rel=1e-5, abs=2e-5)
        assert found[key].is_greedy == bool((logits.argmax(-1) == target).all())


@pytest.fixture(scope="module")
def all_of_mmlu(stories: LanguageModel, shared_data: Path) -> Scorer:
    """Return a scorer for all 14,042 questions, without worked examples."""
    from lm_eval import utils

    with pytest.MonkeyPatch.context() as patch:
        # lm-eval compiles a template anew for every text: 83 s. What it compiles to stays the same.
        patch.setattr(utils.env, "from_string", functools.cache(utils.env.from_string))
        patch.setattr("taskdiv_assets.benchmarks.Answerer", lambda *_args, **_settings: NoAnswers)
        return Scorer(stories, mmlu_of(shared_data, tasks=None, limit=None, few_shot=0), pool=POOL)


class NoAnswers:
    """Replacement of `Answerer` for scripted answers. Without it, 56,168 requests would be tokenised for no use."""

    cut: frozenset[str] = frozenset()


def letters_of(archive_file: Path) -> dict[str, Counter[str]]:
    """Return the number of right letters by subject, read from the CSV files by the standard library alone."""
    letters = {}
    with tarfile.open(archive_file) as archive:
        for subject in SUBJECTS:
            file = archive.extractfile(f"test/{subject}_test.csv")
            assert file is not None
            letters[subject] = Counter(row[5] for row in csv.reader(io.StringIO(file.read().decode(), newline="")))
    return letters


def scripted(scorer: Scorer, is_likely: Callable[[Any, int], bool]) -> dict[str, float]:
    """Return the number of right answers by subject if `is_likely` decides which letter of a question is likelier."""
    answers = {
        key: Answer(None, -1.0 if is_likely(item.doc, place) else -2.0, False)
        for item in scorer.questions.items
        for place, key in enumerate(item.keys)
    }
    order = random.Random(0).sample(sorted(answers), len(answers))  # answers come in any order
    table = scorer.scored({key: answers[key] for key in order}).table
    totals: Counter[str] = Counter()
    for task, score in zip(table["task"].to_pylist(), table["score"].to_pylist(), strict=True):
        totals[task] += score
    assert table.num_rows == 14_042
    return dict(totals)


def test_scripted_answers_score_what_the_csv_files_say(all_of_mmlu: Scorer, shared_data: Path) -> None:
    letters = letters_of(shared_data / "mmlu" / "mmlu_csv.tar.gz")
    assert sum(sum(count.values()) for count in letters.values()) == 14_042
    always_a = scripted(all_of_mmlu, lambda _doc, place: place == 0)
    assert always_a == {subject: count["A"] for subject, count in letters.items()}
    gold = scripted(all_of_mmlu, lambda doc, place: place == doc["answer"])
    assert gold == {subject: sum(count.values()) for subject, count in letters.items()}


def test_one_answer_that_is_not_finite_is_told(all_of_mmlu: Scorer) -> None:
    answers = {key: Answer(None, -1.0, False) for key in all_of_mmlu.questions.requests}
    item = all_of_mmlu.questions.items[5000]
    answers[item.keys[2]] = Answer(None, math.nan, False)
    with pytest.raises(ValueError, match=f"task '{item.task}', item '{item.item_id}': .* not a finite number"):
        all_of_mmlu.scored(answers)
