"""Log-likelihoods of answers for every family of models, compared with lm-eval's own loop and with each text alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskdiv_assets.language_model import likelihood, token_statistics
from taskdiv_assets.language_model.likelihood import Asked, LikelihoodPlan
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.prefixes import can_share
from tests.language_model.characters import CONTEXT, load_config, load_family, log_likelihoods
from tests.language_model.test_architectures import FAMILIES, VOCABULARY

pytestmark = pytest.mark.xdist_group("likelihood")
# float32 in other shapes: one token's log-probability differs by some 1e-6, and an answer of 128 tokens sums as many.
NEAR = {"rel": 1e-5, "abs": 2e-5}


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_family(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_family("llama", tmp_path_factory.mktemp("llama"))


def tokens(random: np.random.Generator, size: int) -> tuple[int, ...]:
    return tuple(random.integers(4, VOCABULARY, size).tolist())


def questions() -> list[Asked]:
    """Return texts that begin alike in every way that benchmarks' texts do, and texts around the context's limit."""
    random = np.random.default_rng(0)
    some = partial(tokens, random)
    asked = []
    context = some(40)
    asked += [Asked(context, (letter,)) for letter in range(10, 14)]  # letters after one question
    context = some(50)
    asked += [Asked(context, some(size)) for size in (2, 3, 5, 7)]  # endings of one story
    examples = some(60)  # worked examples, then questions
    for size in (1, 2, 2, 5, 9, 14, 14, 20, 25, 30):
        question = examples + some(size)
        asked += [Asked(question, some(1)), Asked(question, some(3))]
    for size in (33, 41, 50, 120):  # stories of their own; the longest has short endings, the others long ones
        story = some(size)
        asked += [Asked(story, some(ending)) for ending in ((1, 4, 8) if size == 120 else (2, 30, 45))]
    asked += [Asked(some(size), some(answer)) for size, answer in ((1, 1), (2, 3), (5, 1), (17, 2), (31, 4), (64, 8))]
    asked += [Asked((1,), some(4)), Asked((1,), some(1))]  # no context: BOS alone
    asked.append(Asked(some(CONTEXT), some(1)))  # the last token is never read
    asked.append(Asked(some(1), some(CONTEXT)))
    return asked


def with_greedy_answers(lm: LanguageModel, asked: list[Asked]) -> list[Asked]:
    """Add, for some contexts, the model's own greedy answer and one that differs from it in the last token."""
    import torch

    more = []
    for one in asked[:30:5]:
        ids = list(one.context)
        for _ in range(3):
            with torch.inference_mode():
                ids.append(int(lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        answer = ids[len(one.context) :]
        more += [Asked(one.context, tuple(answer)), Asked(one.context, (*answer[:2], (answer[2] + 1) % VOCABULARY))]
    return asked + more


def said(plan: LikelihoodPlan, is_known: Any = None) -> dict[int, tuple[float, bool]]:
    found: dict[int, tuple[float, bool]] = {}
    for part in plan.run(is_known):
        values = zip(part.positions.tolist(), part.nats.tolist(), part.is_greedy.tolist(), strict=True)
        for place, *value in values:
            assert place not in found, "an answer was given twice"
            found[place] = (value[0], value[1])
    return found


def alone(lm: LanguageModel, one: Asked) -> float:
    """Return the log-likelihood of one text by itself: no cache, and double precision from the logits on."""
    import torch

    ids = torch.tensor([one.context + one.answer])
    with torch.inference_mode():
        logits = lm.model(input_ids=ids[:, :-1], use_cache=False).logits[0].double().log_softmax(-1)
    return float(sum(logits[len(one.context) - 1 + step, token] for step, token in enumerate(one.answer)))


def assert_near(found: dict[int, tuple[float, bool]], expected: list[tuple[float, bool]]) -> None:
    assert sorted(found) == list(range(len(expected)))
    for place, (nats, is_greedy) in enumerate(expected):
        assert found[place][0] == pytest.approx(nats, **NEAR), place
        assert found[place][1] == is_greedy, place


def test_log_likelihoods_are_those_of_lm_eval(lm: LanguageModel) -> None:
    asked = with_greedy_answers(lm, questions())
    expected = log_likelihoods(lm, asked)
    assert {is_greedy for _, is_greedy in expected} == {True, False}
    plan = LikelihoodPlan(lm, asked)
    shares = any(family.prefix_n for family in plan.families)
    assert shares == can_share(lm) == (lm.model.config.model_type not in ("mistral", "gemma2", "gemma3_text"))
    assert_near(said(plan), expected)


def test_models_without_a_cache_read_every_text_whole(tmp_path: Path) -> None:
    from transformers import MambaConfig, OpenAIGPTConfig, RwkvConfig

    sizes = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2}
    for config in (
        OpenAIGPTConfig(n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, **sizes),
        MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **sizes),
        RwkvConfig(hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, intermediate_size=48, **sizes),
    ):
        lm = load_config(config, tmp_path / config.model_type)
        asked = questions()[:12]
        plan = LikelihoodPlan(lm, asked)
        assert [family.prefix_n for family in plan.families] == [0]
        assert_near(said(plan), log_likelihoods(lm, asked))


def test_a_text_parted_in_two_places_counts_its_own_answer(llama: LanguageModel) -> None:
    """lm-eval takes the first tokens of the longer answer for the shorter one here; so each text alone is the definition."""
    random = np.random.default_rng(5)
    text = tokens(random, 20)
    asked = [Asked(text[:12], text[12:]), Asked(text[:17], text[17:]), Asked(text[:17], (*text[17:19], 9))]
    plan = LikelihoodPlan(llama, asked)
    assert len(plan.texts) == 1
    for place, (nats, _) in said(plan).items():
        assert nats == pytest.approx(alone(llama, asked[place]), **NEAR)


def test_what_is_known_changes_no_bit_of_the_rest(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    asked = questions()
    plan, whole = LikelihoodPlan(lm, asked), said(LikelihoodPlan(lm, asked))
    random = np.random.default_rng(1)
    for share in (0.0, 0.3, 0.8, 0.97, 1.0):
        known = random.random(len(asked)) < share
        assert said(plan, known) == {place: value for place, value in whole.items() if not known[place]}


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Force several batches for each family, so that a kill can come between them."""
    from taskdiv_assets.language_model import batching

    monkeypatch.setattr(batching, "CPU_SHAPES", batching.Shapes(rows=6, tokens=600))


def test_a_run_that_is_abandoned_after_any_batch_is_taken_up_to_the_bit(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch)
    asked = questions()
    whole = said(LikelihoodPlan(llama, asked))
    batches_n = len(list(LikelihoodPlan(llama, asked).run()))
    assert batches_n > 5
    for stop in range(batches_n):
        found: dict[int, tuple[float, bool]] = {}
        for batch, part in enumerate(LikelihoodPlan(llama, asked).run()):
            if batch == stop:
                break  # this batch was not stored
            found |= dict(
                zip(part.positions.tolist(), zip(part.nats.tolist(), part.is_greedy.tolist(), strict=True), strict=True)
            )
        known = np.isin(np.arange(len(asked)), list(found))
        assert found | said(LikelihoodPlan(llama, asked), known) == whole


def test_batches_that_are_done_are_not_computed_again(
    llama: LanguageModel, little_memory: Callable[[int], list[int]]
) -> None:
    asked = questions()
    plan, went = LikelihoodPlan(llama, asked), little_memory(10**6)
    said(plan, np.ones(len(asked), np.bool_))
    assert went == []
    known = np.ones(len(asked), np.bool_)
    known[4] = False  # an ending of a story: the beginnings of its batch, and what follows
    assert list(said(plan, known)) == [4] and len(went) == 2


def test_the_caller_is_not_left_in_inference_mode(llama: LanguageModel) -> None:
    import torch

    run = LikelihoodPlan(llama, questions()).run()
    next(run)
    assert not torch.is_inference_mode_enabled()


def test_logits_are_made_where_answers_stand(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of many lengths: at every column that any of them needs, for all of them, it would be 40 times as many."""
    random = np.random.default_rng(2)
    asked = [Asked(tokens(random, size), tokens(random, 1)) for size in range(10, 50)]
    made = []
    hook = llama.model.lm_head.register_forward_hook(lambda _head, _states, logits: made.append(tuple(logits.shape)))
    try:
        found = said(LikelihoodPlan(llama, asked))
    finally:
        hook.remove()
    assert {(rows, size) for rows, _, size in made} == {(1, VOCABULARY)} and sum(n for _, n, _ in made) == 40
    assert_near(found, log_likelihoods(llama, asked))
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 7 * VOCABULARY)
    assert len(list(LikelihoodPlan(llama, asked).run())) == 6  # 40 in batches of 7


@pytest.fixture
def little_memory(llama: LanguageModel) -> Iterator[Callable[[int], list[int]]]:
    """Yield a function that makes batches of more than `tokens_n` tokens fail. It returns the sizes of the others."""
    import torch

    hooks = []

    def limit(tokens_n: int) -> list[int]:
        went: list[int] = []

        def look(_model: Any, _args: Any, inputs: dict[str, Any]) -> None:
            if inputs["input_ids"].numel() > tokens_n:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            went.append(inputs["input_ids"].numel())

        hooks.append(llama.model.register_forward_pre_hook(look, with_kwargs=True))
        return went

    yield limit
    for hook in hooks:
        hook.remove()


def test_where_memory_runs_out_batches_are_halved_and_results_stay(
    llama: LanguageModel, little_memory: Callable[[int], list[int]]
) -> None:
    asked, told = questions(), []
    expected = log_likelihoods(llama, asked)
    for tokens_n in (1000, 300):
        plan = LikelihoodPlan(llama, asked, told.append)
        little_memory(tokens_n)
        assert_near(said(plan), expected)
        assert plan.room.halvings_n > 0
    assert all(text.startswith("memory ran out on cpu with ") for text in told)


def test_memory_that_runs_out_at_the_beginnings_halves_them_too(
    llama: LanguageModel, little_memory: Callable[[int], list[int]]
) -> None:
    """The first pass of all is over 20 beginnings of 40 tokens: how many rows it had is known before it runs."""
    random = np.random.default_rng(3)
    stories = [tokens(random, 41) for _ in range(20)]
    asked = [Asked(story, tokens(random, 2)) for story in stories for _ in range(2)]
    expected = log_likelihoods(llama, asked)
    plan = LikelihoodPlan(llama, asked)
    went = little_memory(400)
    assert_near(said(plan), expected)
    assert max(went) == 400  # 10 of them


def test_one_text_for_which_there_is_no_memory_is_told(
    llama: LanguageModel, little_memory: Callable[[int], list[int]]
) -> None:
    plan = LikelihoodPlan(llama, [Asked((1,) * 60, (5,))])
    little_memory(50)
    with pytest.raises(ValueError, match="cpu has too little memory for one prompt of 60 tokens"):
        said(plan)


def test_nothing_asked_nothing_said(llama: LanguageModel) -> None:
    assert said(LikelihoodPlan(llama, [])) == {}


@pytest.mark.parametrize("vocabulary_n", [7, 181, 2**14, 50_257])
def test_in_parts_that_fit_into_the_cache_the_bits_are_those_of_torch(
    vocabulary_n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(token_statistics, "AT_ONCE", 3 * vocabulary_n)
    logits = torch.randn(71, vocabulary_n, generator=torch.Generator().manual_seed(0)) * 5
    logits[3, :2] = logits[3].max() + 1  # of equal logits the first counts
    tokens, log_sums = token_statistics.likeliest_and_log_sum(logits)
    assert torch.equal(tokens, logits.argmax(-1)) and int(tokens[3]) == 0
    assert torch.equal(log_sums, logits.logsumexp(-1))
