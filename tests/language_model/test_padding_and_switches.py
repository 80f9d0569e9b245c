"""Models that count padding or choose their frequencies by a batch's longest text: each text is read as if alone.

The models are tiny and random. Results are compared with a plain forward pass over one text, without cache, mask or other
texts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from taskdiv_assets.graph.models import BATCHING, Models
from taskdiv_assets.language_model.answers import judge
from taskdiv_assets.language_model.apart import Apart, side, switches_of
from taskdiv_assets.language_model.batching import Group, as_batch, groups, sorted_groups
from taskdiv_assets.language_model.confidence import score
from taskdiv_assets.language_model.continuation import Wanted, WritingPlan
from taskdiv_assets.language_model.counted import Counted, counted_padding, notes_of
from taskdiv_assets.language_model.decoding import Decoding, read_beginnings
from taskdiv_assets.language_model.embeddings import embed
from taskdiv_assets.language_model.likelihood import Asked, LikelihoodPlan
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.tuning import IGNORED, Base, Encoded, Example
from taskdiv_assets.language_model.tuning.held_out import validation_loss
from taskdiv_assets.language_model.tuning.steps import Layout, batch_of, lay_out
from tests.language_model.test_architectures import END, GROUPED, SIZE, VOCABULARY, Numbers, step_by_step
from tests.language_model.test_trainable import folder_of

SWITCH = 32
TOLERANCE = 1e-4  # logits of some units in float32: rounding is 1e-6, a counted gap above 1e-2
LONGROPE = {
    "original_max_position_embeddings": SWITCH,
    "rope_scaling": {
        "rope_type": "longrope",
        "short_factor": [1.0] * 4,
        "long_factor": [2.0, 3.0, 4.0, 5.0],
        "original_max_position_embeddings": SWITCH,
    },
}
WINDOW = {**GROUPED, "head_dim": 8, "sliding_window": 8}
OLD = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": END}
LOCAL = {"attention_types": [[["global", "local"], 1]], "window_size": 8, "max_position_embeddings": 128}
CASES: dict[str, tuple[str, dict[str, Any], Counted]] = {
    "llama": ("LlamaConfig", GROUPED, Counted()),
    "mpt": ("MptConfig", {**OLD, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}, Counted(gap=True)),
    "bloom": ("BloomConfig", {**OLD, "hidden_size": 32, "n_layer": 2, "n_head": 4}, Counted()),
    "falcon, alibi": ("FalconConfig", {**SIZE, "alibi": True, "new_decoder_architecture": False}, Counted()),
    "gpt_neo": ("GPTNeoConfig", {**OLD, **LOCAL, "hidden_size": 32, "num_layers": 2, "num_heads": 4}, Counted(gap=True)),
    "gemma3": ("Gemma3TextConfig", WINDOW, Counted()),
    "longrope": ("Phi3Config", {**GROUPED, **LONGROPE}, Counted()),
    "dynamic": ("LlamaConfig", {**GROUPED, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, Counted()),
}  # fmt: skip


class Words(Numbers):
    """A tokenizer that also decodes token numbers."""

    eos_token = ""  # an answer that is judged here ends without one

    def __call__(self, texts: Any, verbose: bool = False) -> dict[str, Any]:
        if isinstance(texts, str):
            return {"input_ids": [int(word) for word in texts.split()]}
        return super().__call__(texts)

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, tokens))


def made(case: str) -> LanguageModel:
    name, settings, _ = CASES[case]
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, name)(**settings),
        attn_implementation="eager" if case in ("mpt", "bloom", "gpt_neo") else "sdpa",
    ).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.mul_(3.0)
    return LanguageModel(model, Words(), torch.device("cpu"), "float32")


@pytest.fixture(scope="module", params=list(CASES))
def case(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lm(case) -> LanguageModel:
    return made(case)


@pytest.fixture(scope="module")
def phi() -> LanguageModel:
    return made("longrope")


def tokens(size: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng([size, seed]).integers(3, VOCABULARY, size).tolist())


def text(size: int, seed: int = 0) -> str:
    return " ".join(map(str, tokens(size, seed)))


def logits(lm: LanguageModel, ids: tuple[int, ...]) -> torch.Tensor:
    """Return the logits (tokens, vocabulary) of one text alone."""
    with torch.inference_mode():
        found: torch.Tensor = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return found


def written_alone(lm: LanguageModel, context: tuple[int, ...], new_n: int) -> str:
    new: list[int] = []
    while len(new) < new_n and END not in new:
        new.append(int(logits(lm, (*context, *new))[-1].argmax()))
    return " ".join(map(str, new))


def nats_alone(lm: LanguageModel, asked: Asked) -> float:
    read = logits(lm, (asked.context + asked.answer)[:-1]).double().log_softmax(-1)[-len(asked.answer) :]
    return float(read.gather(-1, torch.tensor(asked.answer)[:, None]).sum())


# --- every family ------------------------------------------------------------------------------------------------


def test_the_model_is_asked_once_which_padding_it_counts(case, lm):
    assert counted_padding(lm) == CASES[case][2]
    assert {**notes_of(lm.model.config), "switches": []} == {**CASES[case][2]._asdict(), "switches": []}
    calls: list[object] = []
    with lm.model.register_forward_pre_hook(lambda *_: calls.append(1)):
        counted_padding(lm._replace(tokenizer=Numbers()))
    assert not calls


def test_logits_after_a_shared_beginning_are_those_of_the_whole_text(lm):
    story, rests = tokens(40), [tokens(1), tokens(12)]
    with torch.inference_mode():
        known = read_beginnings(lm, as_batch(lm, [story], Group(np.array([0]), 40, False), 1))
        decoding = Decoding(lm, as_batch(lm, rests, Group(np.arange(2), 12, True), 2), 2, known)
        first = decoding.next_logits()
        decoding.go_on(torch.tensor([5, 6]), None)
        second = decoding.next_logits()
    for row, rest in enumerate(rests):
        assert torch.allclose(first[row], logits(lm, story + rest)[-1], atol=TOLERANCE)
        assert torch.allclose(second[row], logits(lm, (*story, *rest, 5 + row))[-1], atol=TOLERANCE)


def test_what_is_written_is_what_the_model_writes_alone(lm):
    contexts = [tokens(26) + tokens(size) for size in (1, 2, 3, 5, 6, 8, 11, 12, 40)] + [tokens(70), tokens(3)]
    plan = WritingPlan(lm, [Wanted(context, (), 4) for context in contexts])
    found = {place: one for part in plan.run() for place, one in zip(part.positions, part.texts, strict=True)}
    assert [found[place] for place in range(len(contexts))] == [written_alone(lm, one, 4) for one in contexts]


def test_likelihoods_are_those_of_the_text_alone_also_where_padding_would_be_longer_than_the_context(lm):
    long, middle = tokens(110), tokens(60)
    asked = [Asked(long, tokens(2)), Asked(long, tokens(3)), Asked(middle, tokens(30)), Asked(middle, tokens(29))]
    asked += [Asked(tokens(33) + tokens(size, 1), tokens(2, size)) for size in range(1, 11)]
    asked += [Asked(tokens(size), tokens(1)) for size in (5, 31, 32, 33, 128)]
    found = np.zeros(len(asked))
    for part in LikelihoodPlan(lm, asked).run():
        found[part.positions] = part.nats
    assert found == pytest.approx([nats_alone(lm, one) for one in asked], abs=TOLERANCE)


def test_scores_are_those_of_a_prompt_alone(lm):
    prompts = [text(size) for size in (1, 5, 16, 17, 24, 26, 27, 31, 32, 33, 40, 90)]
    columns = score(lm, prompts, max_new_tokens=8).columns
    for row in range(len(prompts)):
        expected = step_by_step(lm, prompts[row], 8)
        assert {name: columns[name][row] for name in expected} == pytest.approx(expected, rel=1e-4, abs=TOLERANCE)


# --- a switch ----------------------------------------------------------------------------------------------------

SIZES = (20, 24, 27, 30, 31, 32, 33, 39)


@pytest.mark.parametrize("of", ["continuation", "prompt"])
def test_a_score_does_not_depend_on_neighbours_on_the_other_side_of_a_switch(phi, of):
    prompts = [text(size) for size in SIZES]
    together = score(phi, prompts, max_new_tokens=8, of=of).columns["sequence_log_probability"]
    alone = [score(phi, [one], max_new_tokens=8, of=of).columns["sequence_log_probability"][0] for one in prompts]
    assert together.tobytes() == np.array(alone).tobytes()


def test_a_prompt_is_read_with_the_frequencies_of_its_own_length(phi):
    found = score(phi, [text(size) for size in SIZES], max_new_tokens=8, of="prompt").columns
    for row, size in enumerate(SIZES):
        read = logits(phi, tokens(size))[:-1].double().log_softmax(-1)
        nats = float(read.gather(-1, torch.tensor(tokens(size)[1:])[:, None]).sum())
        assert found["sequence_log_probability"][row] == pytest.approx(nats, abs=TOLERANCE)


def test_an_embedding_has_the_frequencies_of_its_own_length(phi):
    vectors = embed(phi, [text(size) for size in SIZES]).astype(np.float64)
    for row, size in enumerate(SIZES):
        with torch.inference_mode():
            hidden = phi.model.base_model(input_ids=torch.tensor([tokens(size)]), use_cache=False).last_hidden_state[0]
        expected = hidden.double().sum(0)
        # float16 rounds by up to 2e-4 here; the other frequencies move a vector by more than 1e-2
        assert np.abs(vectors[row] - (expected / expected.norm()).numpy()).max() < 5e-4


@pytest.mark.parametrize("case", ["longrope", "dynamic"])
def test_judged_answers_have_the_frequencies_of_their_own_length_up_to_the_context(case):
    lm = made(case)
    before = lm.model.model.rotary_emb.inv_freq.clone()
    sizes = (28, 33, 120, 125)  # 125 tokens would be padded to 128, and 128 beyond the context
    probabilities = judge(lm, [text(size) for size in sizes], [" " + text(3, 1)] * 4, with_end=False).probability
    for size, found in zip(sizes, probabilities, strict=True):
        read = logits(lm, tokens(size) + tokens(3, 1))[-4:-1].softmax(-1)
        assert found == pytest.approx(float(read.gather(-1, torch.tensor(tokens(3, 1))[:, None]).mean()), abs=1e-5)
    if case == "dynamic":
        assert torch.equal(lm.model.model.rotary_emb.inv_freq, before), "nothing was read beyond the context"


def test_a_step_of_training_holds_one_side_of_a_switch_in_each_pass():
    lengths = np.array([10, 40, 32, 33, 12, 60])
    order = np.arange(6)
    for row_tokens_n in (None, 128):
        passes = lay_out(order, lengths, Layout(1000, row_tokens_n, (SWITCH,)))
        sides = [{side((SWITCH,), lengths[one]) for row in rows for one in row} for rows in passes]
        assert sides == [{1}, {0}]
        assert sorted(one for rows in passes for row in rows for one in row) == order.tolist()
    assert lay_out(order, lengths, Layout(1000)) == [[(5,), (1,), (3,), (2,), (4,), (0,)]]


@pytest.mark.full  # loads a model three times
def test_a_validation_loss_has_each_example_with_the_frequencies_of_its_own_length(tmp_path: Path):
    settings = {name: value for name, value in {**GROUPED, **LONGROPE}.items() if name != "vocab_size"}
    folder = folder_of(transformers.Phi3Config, settings, tmp_path, scale=3.0)
    examples = [Example(f"p{size}", "a" * size + ":", "banana") for size in (20, 50)]
    alone = [validation_loss(Base(folder, "float32", "sdpa"), None, [one], 128) for one in examples]
    together = validation_loss(Base(folder, "float32", "sdpa"), None, examples, 128)
    assert together == pytest.approx(np.mean(alone), abs=1e-5), "all answers have as many tokens"


def test_padding_of_a_packed_row_has_no_position_beyond_its_longest_example():
    examples = [Encoded([5] * size, [IGNORED] * size, False) for size in (10, 8, 9)]
    batch = batch_of(examples, [(0, 1), (2,)], is_packed=True, padding=0)
    assert batch.position_ids is not None and batch.position_ids.max() == 9


def test_a_switch_is_found_for_one_kind_of_layer_or_several():
    assert switches_of(made("longrope").model.config) == (SWITCH,)
    assert switches_of(made("dynamic").model.config) == (128,)
    assert switches_of(made("llama").model.config) == ()
    by_layer = {"full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 16}, "other": {}}
    config = type("C", (), {"rope_parameters": by_layer, "get_text_config": lambda self: self})()
    assert switches_of(config) == (16,)


# --- a model that counts padding -----------------------------------------------------------------------------------


def forgetful() -> LanguageModel:
    """Return a Llama that ignores masks and positions: it sees padding and counts it."""
    lm = made("llama")
    inner: Callable[..., Any] = lm.model.forward

    def forward(input_ids: Any, past_key_values: Any = None, use_cache: Any = None, **ignored: Any) -> Any:
        return inner(input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache)

    lm.model.forward = forward
    return lm


def test_texts_of_a_model_that_counts_padding_share_batches_by_length():
    lm = forgetful()
    assert counted_padding(lm) == Counted(gap=True, left=True)
    test_scores_are_those_of_a_prompt_alone(lm)
    test_what_is_written_is_what_the_model_writes_alone(lm)
    test_likelihoods_are_those_of_the_text_alone_also_where_padding_would_be_longer_than_the_context(lm)


def test_groups_hold_texts_of_one_class_and_lose_none():
    rows = [list(tokens(size)) for size in (20, 30, 30, 31, 33, 40, 20, 18)]
    for apart in (Apart(), Apart((SWITCH,), new_n=8), Apart((), True)):
        for found in (groups(rows, 64, lambda _: 3, apart), sorted_groups(rows, lambda _: 3, apart)):
            assert sorted(place for group in found for place in group.positions) == list(range(len(rows)))
            for group in found:
                sizes = [len(rows[place]) for place in group.positions]
                assert len({apart.key(size) for size in sizes}) == 1
                assert group.is_padded == (min(sizes) < group.length)
                assert not (apart.is_exact and group.is_padded)


# --- identities ----------------------------------------------------------------------------------------------------


def models_of(notes: dict[str, Any], max_length: int = 2048) -> Models:
    experiment: Any = type("E", (), {"prompt_template": "{prompt}", "chat_template": False})()
    experiment.tuning = type("T", (), {"max_length": max_length})()
    footer: Any = type("F", (), {"notes": notes})()
    return Models(experiment, lambda unit: footer, lambda unit: footer)


@pytest.mark.parametrize("notes", [{}, {BATCHING: {"gap": False, "left": False, "right": False, "switches": []}}])
def test_identities_of_most_models_and_of_earlier_stores_say_nothing_of_batches(notes: dict[str, Any]):
    models = models_of(notes)
    assert models.batching("gap", "left", "right") == {} and models.training_template == models.template


def test_identities_say_what_changes_the_result_in_question():
    of_mpt = models_of({BATCHING: {"gap": True, "left": False, "right": False, "switches": []}})
    assert of_mpt.batching("gap", "left") == {BATCHING: ["gap"]}
    assert of_mpt.batching("left") == {} and of_mpt.training_template == of_mpt.template
    of_phi = {BATCHING: {"gap": False, "left": False, "right": False, "switches": [4096]}}
    assert models_of(of_phi).batching("right") == {BATCHING: [4096]}
    assert models_of(of_phi).training_template == ["{prompt}", False], "no example is that long"
    assert models_of(of_phi, 8192).training_template == ["{prompt}", False, "apart beyond [4096] tokens"]


def test_a_folder_saved_by_transformers_is_found_to_have_its_switch(tmp_path: Path):
    config = transformers.Phi3Config(**{**GROUPED, **LONGROPE})
    config.save_pretrained(tmp_path)
    assert switches_of(transformers.AutoConfig.from_pretrained(tmp_path)) == (SWITCH,)
