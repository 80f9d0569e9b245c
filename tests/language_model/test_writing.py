"""Texts that models of every family write, compared with lm-eval's own loop over transformers' `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskdiv_assets.benchmarks.encoding import Encoder
from taskdiv_assets.language_model import batching
from taskdiv_assets.language_model import continuation as writing
from taskdiv_assets.language_model.continuation import PROCESSORS, Wanted, WritingPlan, can_write
from taskdiv_assets.language_model.loading import LanguageModel, end_tokens
from taskdiv_assets.language_model.prefixes import LARGE
from taskdiv_assets.language_model.quiet import quiet_harness
from tests.language_model.characters import CONTEXT, SPECIAL, harness, load_config, load_family
from tests.language_model.test_architectures import FAMILIES, VOCABULARY

pytestmark = pytest.mark.xdist_group("writing")
NEW = 16
EXAMPLES = "Q: 1+1?\nA: 2\n\nQ: 2+2?\nA: 4\n\nQ: 3+4?\nA: 7\n\n"  # 45 characters, as many tokens
CONTEXTS = [
    *(EXAMPLES + question for question in ("Q: 5+1?", "Q: 日+1?", "Q: 10-4?\nA:", "b", "Q: 9+9+9?\nA:", "ab", "xyz.", "?", "!!")),
    *("a", "hello\n", "Once 12", "x y z, 4", "日本 k", "a", "VWXYZ" * 9),
    "far too long " * 20 + "end",
    "0123456789" * 13,
]  # fmt: skip
Rule = dict[str, Any]


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_family(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def llama(tmp_path: Path) -> LanguageModel:
    """Return a model that writes varied texts and ends some of them."""
    return load_family("llama", tmp_path)


def requests(contexts: Sequence[str], rule: Rule) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance("generate_until", {}, (context, dict(rule)), place) for place, context in enumerate(contexts)]


def wanted(lm: LanguageModel, some: Sequence[Any]) -> list[Wanted]:
    encoder = Encoder(lm)
    questions = [encoder.encode(request).question for request in some]
    return [question for question in questions if isinstance(question, Wanted)]


def texts_of(plan: WritingPlan, is_known: Any = None) -> dict[int, str]:
    found: dict[int, str] = {}
    for written in plan.run(is_known):
        assert not found.keys() & set(written.positions), "a text was written twice"
        found |= dict(zip(written.positions, written.texts, strict=True))
    return found


def ours(lm: LanguageModel, some: Sequence[Any]) -> list[str]:
    found = texts_of(WritingPlan(lm, wanted(lm, some)))
    assert sorted(found) == list(range(len(some)))
    return [found[place] for place in range(len(some))]


def theirs(lm: LanguageModel, some: Sequence[Any], batch_size: int = 1) -> list[str]:
    with quiet_harness():
        found: list[str] = harness(lm, batch_size).generate_until(list(some), disable_tqdm=True)
    return found


def rules_from(texts: Sequence[str]) -> list[Rule]:
    """Return rules with stop texts of every kind, taken from written texts so that they occur."""
    long = sorted((text for text in texts if len(text) >= 6), key=lambda text: -len(set(text)))
    assert len(long) >= 3
    # No part of a special token: at these lm-eval ends a batch of one, but not a row of many.
    one = next(character for character in long[0][3:] if character not in "".join(SPECIAL))
    two, three = long[1][2:4], long[2][1:4]
    return [
        {"until": [one], "max_gen_toks": NEW},
        {"until": ["\n\n", two, "never comes"], "max_gen_toks": NEW},
        {"until": [three, "日本", "é"], "max_gen_toks": NEW},
        {"until": one + three[-1], "max_gen_toks": 7, "do_sample": False, "temperature": 0.0},
        {"until": ["</s>"], "max_new_tokens": 3},
    ]


def test_texts_are_those_of_lm_eval(lm: LanguageModel) -> None:
    assert can_write(lm)
    free = requests(CONTEXTS, {"until": [], "max_gen_toks": NEW})
    texts = ours(lm, free)
    assert texts == theirs(lm, free, batch_size=18)
    some = [request for rule in rules_from(texts) for request in requests(CONTEXTS, rule)]
    stopped = ours(lm, some)
    assert stopped == theirs(lm, some, batch_size=18)
    assert sum(a != b for a, b in zip(texts, stopped, strict=False)) >= 1  # the stop texts came


def test_every_kind_of_plan_was_among_them(llama: LanguageModel) -> None:
    """Of the comparison above: texts of a family and others, over-long contexts, padded batches, ends before the limit."""
    some = wanted(llama, requests(CONTEXTS, {"until": [], "max_gen_toks": NEW}))
    plan = WritingPlan(llama, some)
    assert [(len(family.members), family.prefix_n > 40) for family in plan.families] == [(9, True), (9, False)]
    assert sorted(len(one.context) for one in some)[-2:] == [CONTEXT - NEW] * 2
    encoder = Encoder(llama)
    texts = ours(llama, requests(CONTEXTS, {"until": [], "max_gen_toks": NEW}))
    lengths = [len(encoder.harness.tok_encode(text)) for text in texts]
    assert min(lengths) < 10


def test_a_text_is_cut_if_the_limit_ended_it(llama: LanguageModel) -> None:
    """Compared with the number of tokens that transformers' `generate` writes, and with texts that a stop text ended."""
    import torch

    free = requests(CONTEXTS, {"until": [], "max_gen_toks": NEW})
    swap(llama, end_tokens(llama)[0], written_tokens(llama, ours(llama, free))[3])  # some texts then end by themselves
    expected = []
    for one in wanted(llama, free):
        context = torch.tensor([one.context])
        row = llama.model.generate(
            context, attention_mask=torch.ones_like(context), max_new_tokens=NEW, do_sample=False, pad_token_id=0
        )[0, len(one.context) :].tolist()
        expected.append(len(row) == NEW and row[-1] not in end_tokens(llama))
    assert cut_of(llama, free) == expected and len(set(expected)) == 2
    texts = ours(llama, free)
    some = requests(CONTEXTS, rules_from(texts)[0])
    is_stopped = [a != b for a, b in zip(texts, ours(llama, some), strict=True)]
    assert any(is_stopped)
    assert cut_of(llama, some) == [cut and not stop for cut, stop in zip(expected, is_stopped, strict=True)]


def cut_of(lm: LanguageModel, some: Sequence[Any]) -> list[bool]:
    found: dict[int, bool] = {}
    for written in WritingPlan(lm, wanted(lm, some)).run():
        found |= dict(zip(written.positions, written.is_cut, strict=True))
    return [found[place] for place in range(len(some))]


def test_a_few_texts_are_not_written_apart(llama: LanguageModel) -> None:
    """Each batch takes as many steps as its longest text, so pairs of like contexts are read whole."""
    pairs = [f"{letter * 40}{end}" for letter in "cdefgh" for end in "12"]
    some = wanted(llama, requests(pairs, {"until": [], "max_gen_toks": 4}))
    assert [family.prefix_n for family in WritingPlan(llama, some).families] == [0]
    many = [f"{letter * 40}{end}" for letter in "cd" for end in "0123456789"[:LARGE]]
    some = wanted(llama, requests(many, {"until": [], "max_gen_toks": 4}))
    assert [family.prefix_n for family in WritingPlan(llama, some).families] == [41, 41]


def written_tokens(lm: LanguageModel, texts: Sequence[str]) -> list[int]:
    """Return all tokens, those in most texts first."""
    counts = np.zeros(VOCABULARY)
    for text in texts:
        counts[list(set(lm.tokenizer.encode(text, add_special_tokens=False)))] += 1
    return [int(token) for token in np.argsort(-counts)]


def swap(lm: LanguageModel, token: int, other: int) -> None:
    """Make the model write `token` where it wrote `other`, and the reverse."""
    import torch

    with torch.no_grad():
        weights = lm.model.lm_head.weight
        weights[[token, other]] = weights[[other, token]]


def test_a_special_token_among_the_stop_texts_ends_a_text(llama: LanguageModel) -> None:
    """Chat models end their turn by one. It is no part of the text, and what came after it would be."""
    free = requests(CONTEXTS, {"until": [], "max_gen_toks": NEW})
    common = written_tokens(llama, ours(llama, free))[1]
    swap(llama, common, llama.tokenizer.convert_tokens_to_ids("<end>"))
    for stop in ("<end>", "nd>", ">"):
        some = requests(CONTEXTS, {"until": [stop], "max_gen_toks": NEW})
        texts = ours(llama, some)
        assert texts == theirs(llama, some)
    assert sum(text != other for text, other in zip(texts, ours(llama, free), strict=True)) >= 2


def test_an_end_token_that_is_not_special_stays_in_the_text(llama: LanguageModel) -> None:
    free = requests(CONTEXTS, {"until": [], "max_gen_toks": NEW})
    before = ours(llama, free)
    common = written_tokens(llama, before)[1]
    llama.model.generation_config.eos_token_id = [2, common]
    texts = ours(llama, free)
    assert texts == theirs(llama, free)
    assert sum(text != other for text, other in zip(texts, before, strict=True)) >= 2


def test_rows_that_end_early_leave_and_the_others_go_on(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking after each token or after eight, as on a GPU, gives the same texts; rows really leave."""
    from taskdiv_assets.language_model.decoding import Decoding

    free = requests(CONTEXTS, {"until": [], "max_gen_toks": NEW})
    some = [request for rule in rules_from(ours(llama, free))[:3] for request in requests(CONTEXTS, rule)]
    expected, rows = theirs(llama, some), []
    original = Decoding.next_logits

    def counting(self: Decoding) -> Any:
        rows.append(len(self.inputs))
        return original(self)

    monkeypatch.setattr(Decoding, "next_logits", counting)
    for steps in (1, 8):
        monkeypatch.setattr(writing, "steps_a_look", lambda _lm, steps=steps: steps)
        rows.clear()
        assert ours(llama, some) == expected
        assert len({n for n in rows if n > 1}) > 3


def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "CPU_SHAPES", batching.Shapes(rows=4, tokens=600))


@pytest.mark.parametrize("lm", ["llama", "gemma3", "bloom"], indirect=True)
def test_what_is_known_changes_nothing_of_the_rest(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    some = wanted(lm, requests(CONTEXTS, {"until": ["a", "\n"], "max_gen_toks": 6}))
    plan = WritingPlan(lm, some)
    whole, batches = texts_of(plan), []
    original = WritingPlan._write

    def noting(self: WritingPlan, group: Any, *args: Any, **settings: Any) -> Any:
        batches.append(group.positions.tolist())
        return original(self, group, *args, **settings)

    monkeypatch.setattr(WritingPlan, "_write", noting)
    texts_of(plan)
    undisturbed = list(batches)
    random = np.random.default_rng(1)
    for share in (0.4, 0.9, 1.0):
        known = random.random(len(some)) < share
        batches.clear()
        assert texts_of(plan, known) == {place: text for place, text in whole.items() if not known[place]}
        # Whole batches, those of which something is missing, so no bit of what a model computes differs.
        assert batches == [batch for batch in undisturbed if not known[batch].all()]


def test_a_run_that_is_abandoned_is_taken_up(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    small_batches(monkeypatch)
    some = wanted(llama, requests(CONTEXTS, {"until": ["a", "\n"], "max_gen_toks": 8}))
    whole = texts_of(WritingPlan(llama, some))
    for stop in range(1, 5):
        found: dict[int, str] = {}
        run = WritingPlan(llama, some).run()
        for _ in range(stop):
            written = next(run)
            found |= dict(zip(written.positions, written.texts, strict=True))
        assert not torch.is_inference_mode_enabled()
        known = np.isin(np.arange(len(some)), list(found))
        assert 0 < known.sum() < len(some)
        assert found | texts_of(WritingPlan(llama, some), known) == whole


def test_where_memory_runs_out_batches_are_halved_and_texts_stay(llama: LanguageModel) -> None:
    import torch

    some = wanted(llama, requests(CONTEXTS, {"until": ["a", "\n"], "max_gen_toks": NEW}))
    whole, told = texts_of(WritingPlan(llama, some)), []

    def look(_model: Any, _args: Any, inputs: dict[str, Any]) -> None:
        # After a few tokens, as the cache grows: rows times all tokens before them.
        if len(inputs["input_ids"]) * inputs["past_key_values"].get_seq_length() > 260:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")

    plan = WritingPlan(llama, some, told.append)
    hook = llama.model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        assert texts_of(plan) == whole
    finally:
        hook.remove()
    assert plan.room.halvings_n > 0 and all("memory ran out on cpu" in text for text in told)


def test_penalties_and_other_pasts_are_left_to_generate(tmp_path: Path) -> None:
    from transformers import MambaConfig, OpenAIGPTConfig

    for name, value in {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "num_beams": 3,
        "min_new_tokens": 4,
        "suppress_tokens": [7],
    }.items():
        assert name in dict(PROCESSORS)
        assert not can_write(load_family("llama", tmp_path / name, **{name: value}))
    assert can_write(load_family("llama", tmp_path / "neutral", repetition_penalty=1.0, num_beams=1))
    sizes = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2}
    gpt = OpenAIGPTConfig(n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, **sizes)
    mamba = MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **sizes)
    for config in (gpt, mamba):
        assert not can_write(load_config(config, tmp_path / config.model_type))


def test_nothing_wanted_nothing_written(llama: LanguageModel) -> None:
    assert texts_of(WritingPlan(llama, [])) == {}
