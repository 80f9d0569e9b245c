"""Packed batches of mixed lengths: equal to one prompt alone, bit-identical to padded batches, whatever the other prompts are."""

import numpy as np
import pytest

from taskdiv_assets.language_model import confidence, counted, packed
from taskdiv_assets.language_model.confidence import Scorer, score
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.token_statistics import statistics
from tests.language_model.test_confidence import by_generate, lab_prompts

NEW_N = 7
ALL_N = 43
SHAPE = {
    "vocab_size": 20_480, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": 512, "eos_token_id": 1, "pad_token_id": 0,
    "bos_token_id": 2, "initializer_range": 0.3, "tie_word_embeddings": False,
}  # fmt: skip
WINDOW = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
OPTIONS = {
    "gemma3_text": WINDOW,
    "mistral": {"sliding_window": 8},
    "qwen2": {**WINDOW, "use_sliding_window": True, "max_window_layers": 0},
    "qwen3": {},
    "smollm3": {},
    "llama": {"num_attention_heads": 1},  # without groups of queries
}


def prompts(count_n: int = ALL_N) -> list[str]:
    """Return prompts of about 5 to 75 tokens."""
    some = lab_prompts(count_n * 5)
    return [" ".join(some[5 * row : 5 * row + 1 + row % 5])[row % 7 :] for row in range(count_n)]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, marks=() if one in ("gemma3_text", "llama") else pytest.mark.full) for one in counted.CLEAN
    ],
)
def tiny(request, miniature) -> LanguageModel:
    """Return a random model with a large vocabulary, one for each type that can be packed. A fifth of its tokens are ends."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **{**SHAPE, **OPTIONS[request.param]})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = list(range(0, SHAPE["vocab_size"], 5))
    return miniature._replace(model=model)


@pytest.fixture
def large(monkeypatch):
    """Treat the tiny models as large ones."""
    monkeypatch.setattr(counted, "LARGE", 0)
    monkeypatch.setattr(packed, "_KNOWN", {})


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return all(left[name].tobytes() == right[name].tobytes() for name in left)


@pytest.mark.usefixtures("large")
class TestEveryType:
    def test_against_one_prompt_alone(self, tiny):
        assert packed.can_pack(tiny)
        columns = score(tiny, prompts(12), max_new_tokens=NEW_N).columns
        for row, prompt in enumerate(prompts(12)):
            for name, expected in by_generate(tiny, prompt, NEW_N).items():
                assert columns[name][row] == pytest.approx(expected, rel=1e-4, abs=1e-4), (name, prompt)

    def test_the_probe_finds_what_is_known_of_the_type(self, tiny):
        assert counted.probed(tiny) == counted.counted_padding(tiny)

    def test_the_other_way_gives_the_same_bits(self, tiny, monkeypatch):
        mine = score(tiny, prompts(), max_new_tokens=NEW_N).columns
        assert 0 < mine["truncated"].mean() < 1 and mine["generated_n"].min() < NEW_N
        is_exact = tiny.model.config.model_type in packed.EXACT_TYPES
        monkeypatch.setattr(counted, "counted_padding", lambda lm: counted.Counted(left=is_exact))
        monkeypatch.setattr(confidence, "can_pack", lambda lm: False)
        assert same(mine, score(tiny, prompts(), max_new_tokens=NEW_N).columns)

    def test_company_changes_no_bit(self, tiny):
        whole = score(tiny, prompts(), max_new_tokens=NEW_N).columns
        order = np.random.default_rng(0).permutation(ALL_N)
        for chosen in ([5], [7, 2, 30], order):
            part = score(tiny, [prompts()[row] for row in chosen], max_new_tokens=NEW_N).columns
            assert same(part, {name: values[chosen] for name, values in whole.items()}), chosen


@pytest.mark.parametrize("tiny", ["gemma3_text"], indirect=True)
@pytest.mark.usefixtures("large")
class TestBatches:
    def test_many_small_batches_give_the_same_bits(self, tiny, monkeypatch):
        whole = score(tiny, prompts(), max_new_tokens=NEW_N).columns
        monkeypatch.setattr(packed, "PACK_ROWS", 5)
        monkeypatch.setattr(packed, "PACK_TOKENS", 150)
        found = packed.packs(tiny, Scorer(tiny, prompts(), max_new_tokens=1).rows, None)
        assert len(found) > 9 and sorted(np.concatenate([one.positions for one in found])) == list(range(ALL_N))
        assert same(whole, score(tiny, prompts(), max_new_tokens=NEW_N).columns)

    def test_what_is_known_is_left_out(self, tiny):
        whole = score(tiny, prompts(), max_new_tokens=NEW_N).columns
        known = np.random.default_rng(0).random(ALL_N) < 0.6
        seen = []
        for positions, columns in Scorer(tiny, prompts(), max_new_tokens=NEW_N).run(known):
            seen += positions.tolist()
            assert same(columns, {name: values[positions] for name, values in whole.items()})
        assert sorted(seen) == np.flatnonzero(~known).tolist()

    def test_memory_that_runs_out_halves_batches(self, tiny, monkeypatch):
        import torch

        whole = score(tiny, prompts(), max_new_tokens=NEW_N).columns
        forward = tiny.model.forward

        def small(**kwargs):
            if kwargs["input_ids"].shape[1] > 300:
                raise torch.OutOfMemoryError("out of memory")
            return forward(**kwargs)

        packed.can_pack(tiny)
        monkeypatch.setattr(packed, "is_suitable", None)  # the answer is known
        monkeypatch.setattr(tiny.model, "forward", small)
        told = []
        assert same(whole, score(tiny, prompts(), max_new_tokens=NEW_N, log=told.append).columns)
        assert "memory ran out" in told[0] and tiny.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("tiny", ["gemma3_text"], indirect=True)
class TestWhichWay:
    def test_small_models_take_the_other_way(self, tiny, miniature):
        assert not packed.can_pack(tiny) and not packed.can_pack(miniature)

    @pytest.mark.usefixtures("large")
    def test_so_do_processors_on_which_rows_matter(self, tiny, monkeypatch):
        monkeypatch.setattr(packed, "_rows_matter", lambda lm: True)
        assert not packed.can_pack(tiny)

    @pytest.mark.usefixtures("large")
    @pytest.mark.parametrize(
        ("name", "value"),
        [("_attn_implementation", "eager"), ("use_bidirectional_attention", True), ("model_type", "gpt2")],
    )
    def test_and_models_that_we_have_not_compared(self, tiny, monkeypatch, name, value):
        monkeypatch.setattr(tiny.model.config, name, value, raising=False)
        assert not packed.can_pack(tiny)


class TestStatistics:
    def test_a_large_vocabulary_in_parts_gives_the_same_bits(self, monkeypatch):
        import torch

        from taskdiv_assets.language_model import token_statistics

        logits = torch.randn((5, 40, 32_768), generator=torch.Generator().manual_seed(0)) * 3
        logits[0, 0, [7, 900, 30_000]] = 50.0  # ties: the first counts
        logits[1, 1, 5:] = float("-inf")
        own = logits.argmin(-1)
        found = [statistics(logits), statistics(logits, own)]
        assert int(found[0].token[0, 0]) == 7
        monkeypatch.setattr(token_statistics, "AT_ONCE", 2**40)
        monkeypatch.setattr(token_statistics, "LARGE_VOCABULARY", 2**40)
        for step, whole in zip(found, [statistics(logits), statistics(logits, own)], strict=True):
            assert all(torch.equal(part, expected) for part, expected in zip(step, whole, strict=True))
