"""Prompt embeddings compared with a plain loop, and their independence of the batch."""

import numpy as np
import pytest

from taskdiv_assets.language_model.embeddings import embed
from taskdiv_assets.language_model.loading import LanguageModel, load


def one_by_one(lm: LanguageModel, prompts: list[str], pooling: str) -> np.ndarray:
    """Pool the model's own hidden states, one prompt at a time and without padding."""
    import torch

    rows = []
    for prompt in prompts:
        inputs = lm.tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            states = lm.model(input_ids=inputs["input_ids"], output_hidden_states=True).hidden_states[-1][0]
        pooled = (states[-1].double() if pooling == "last" else states.double().mean(0)).numpy()
        rows.append(pooled / np.linalg.norm(pooled))
    return np.array(rows)


@pytest.fixture(scope="module")
def short_prompts(stories, dolly_prompts):
    return [prompt for prompt in dolly_prompts if len(stories.tokenizer(prompt)["input_ids"]) <= 512][:20]


@pytest.mark.parametrize("pooling", ["mean", pytest.param("last", marks=pytest.mark.full)])
def test_equal_a_plain_loop(stories, short_prompts, pooling):
    vectors = embed(stories, short_prompts, pooling=pooling)
    assert vectors.dtype == np.float16 and vectors.shape == (len(short_prompts), 64)
    # Half a float16 step of a number below 1 is 2.4e-4 at most.
    assert np.abs(vectors - one_by_one(stories, short_prompts, pooling)).max() < 3e-4
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1, abs=2e-3)


@pytest.mark.full
def test_not_a_bit_depends_on_the_companions(stories, dolly_prompts):
    whole = embed(stories, dolly_prompts)
    for row in (0, 8, 41):
        assert embed(stories, [dolly_prompts[row]])[0].tobytes() == whole[row].tobytes()


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_prompt_of_one_token_is_its_own_mean(miniature, pooling):
    token = miniature.tokenizer("a")["input_ids"]
    assert len(token) == 1
    vector = embed(miniature, ["a"], pooling=pooling)
    assert vector.tobytes() == embed(miniature, ["a"]).tobytes()


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_bfloat16_points_where_float32_does(miniature_folder, miniature, pooling):
    lm = load(miniature_folder, dtype="bfloat16", attention="sdpa")
    prompts = ["copy: abcd>", "a", "max: 4719>"]
    vectors = embed(lm, prompts, pooling=pooling).astype(np.float64)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=2e-3)
    # bfloat16 keeps 8 bits: a relative error of 2^-8 an operation, over two layers.
    assert (vectors * embed(miniature, prompts, pooling=pooling)).sum(1).min() > 0.99


def test_a_prompt_over_the_context_is_cut_from_the_left(stories):
    tokens = stories.tokenizer("The cat sat on the mat and looked at the moon. " * 100, verbose=False)["input_ids"]
    assert len(tokens) > 600
    assert embed(stories, ["The cat sat on the mat and looked at the moon. " * 100]).shape == (1, 64)


@pytest.mark.parametrize("name", ["LlamaConfig", "Gemma3TextConfig", "GPT2Config"])
def test_the_head_is_never_computed(miniature, name):
    """With Gemma's 262,144 tokens, the head takes most of a pass and 128 MiB for 128 tokens."""
    import transformers

    config = getattr(transformers, name)(
        vocab_size=miniature.tokenizer.vocab_size + 8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=32,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).eval()

    def refuse(*_):
        raise AssertionError("the head was computed")

    model.get_output_embeddings().register_forward_pre_hook(refuse)
    vectors = embed(miniature._replace(model=model), ["copy: abcd>", "a"])
    assert vectors.shape == (2, config.hidden_size) and np.isfinite(vectors).all()


def test_a_model_that_is_broken(miniature_folder):
    import torch

    lm = load(miniature_folder, dtype="float32", attention="sdpa")
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[:] = float("nan")
    with pytest.raises(ValueError, match="hidden state for the prompt in row 0 is zero or not finite"):
        embed(lm, ["copy: abcd>"])


def test_a_prompt_without_tokens_is_named(miniature):
    with pytest.raises(ValueError, match="prompt in row 0"):
        embed(miniature, [""])
    with pytest.raises(ValueError, match="prompt in row 11 "):
        embed(miniature, ["copy: abcd>", ""], first_row=10)


def test_progress(miniature):
    told = []
    embed(miniature, ["copy: abcd>"] * 5, progress=lambda *at: told.append(at))
    assert told == [(5, 5, 1.0)]
