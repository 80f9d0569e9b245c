"""The lab's tokenizer and base model."""

import doctest

import numpy as np
import pytest

from taskdiv_assets.experiment import LabModel
from taskdiv_assets.language_model import lab_model
from taskdiv_assets.language_model.lab_model import EOS, UNKNOWN, build_tokenizer, train
from taskdiv_assets.pools.lab import held_out_items, pool_items, pretraining_examples


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


class TestTokenizer:
    def test_has_181_tokens(self, tokenizer):
        assert len(tokenizer) == 181

    def test_words_of_the_instruction_are_tokens_and_all_else_is_characters(self, tokenizer):
        pieces = [
            tokenizer.decode([token]) for token in tokenizer("opening word: abc def ghi>first" + EOS)["input_ids"]
        ]
        assert pieces == ["opening", " word", ": ", *"abc def ghi>first", EOS]

    def test_knows_every_text_of_the_lab_and_gives_it_back(self, tokenizer):
        texts = [item.prompt + item.response for item in [*pool_items(1), *held_out_items("test", 2)]]
        texts += [example.prompt + example.response for example in pretraining_examples(1, 3000)]
        rows = tokenizer(texts)["input_ids"]
        assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in {token for row in rows for token in row}
        assert tokenizer.batch_decode(rows) == texts
        assert np.mean([len(row) + 1 for row in rows[:4437]]) == pytest.approx(13.6, abs=0.3)  # with EOS

    def test_splits_an_answer_alike_alone_and_after_its_prompt(self, tokenizer):
        for item in held_out_items("validation", 1):
            whole = tokenizer(item.prompt + item.response + EOS)["input_ids"]
            assert whole == tokenizer(item.prompt)["input_ids"] + tokenizer(item.response + EOS)["input_ids"]

    def test_is_the_same_when_saved_and_loaded_by_transformers(self, tokenizer, miniature):
        text = "which is bigger: 48 63>second" + EOS
        assert miniature.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert miniature.tokenizer.eos_token == EOS


class TestTraining:
    def test_the_default_has_the_size_of_the_design(self, tmp_path):
        assert train(LabModel(steps=1, batch_size=8), None, tmp_path).parameters_n == 349_824

    def test_same_settings_same_bytes_and_another_seed_others(self, tmp_path):
        weights = []
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            (tmp_path / name).mkdir()
            train(LabModel(seed=seed, steps=4, hidden_size=16, layers=1), ["copy", "max"], tmp_path / name)
            weights.append((tmp_path / name / "model.safetensors").read_bytes())
        assert weights[0] == weights[1] != weights[2]

    def test_the_loss_falls_and_progress_is_told(self, tmp_path):
        told = []
        result = train(
            LabModel(steps=60, hidden_size=32, layers=2), ["copy", "first"], tmp_path, lambda *at: told.append(at)
        )
        assert told == [(step, 60) for step in range(1, 61)]
        assert len(result.losses) == 60
        assert np.mean(result.losses[-5:]) < np.mean(result.losses[:5]) / 2

    def test_a_packed_step_has_the_loss_of_its_examples_one_by_one(self, tokenizer, miniature):
        import torch

        pairs = [
            (tokenizer(prompt)["input_ids"], tokenizer(response + EOS)["input_ids"])
            for prompt, response in pretraining_examples(2, 40)
        ]
        batch = lab_model._pack(pairs)
        assert len(batch.tokens) < len(pairs)  # it did pack
        causal = torch.ones(lab_model.ROW_TOKENS, lab_model.ROW_TOKENS, dtype=torch.bool).tril()
        mask = (batch.examples[:, :, None] == batch.examples[:, None, :]) & causal
        with torch.inference_mode():
            logits = miniature.model(
                input_ids=batch.tokens, position_ids=batch.positions, attention_mask=mask[:, None]
            ).logits.flatten(0, 1)[batch.predicts]
            packed = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
            alone = sum(
                torch.nn.functional.cross_entropy(
                    miniature.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1],
                    torch.tensor(answer),
                    reduction="sum",
                )
                for prompt, answer in pairs
            )
        assert float(packed) == pytest.approx(float(alone), rel=1e-5)  # float32, other shapes

    def test_leaves_the_global_random_state_alone(self, tmp_path):
        import torch

        before = torch.random.get_rng_state()
        train(LabModel(steps=1, hidden_size=16, layers=1), ["copy"], tmp_path)
        assert torch.equal(before, torch.random.get_rng_state())

    def test_a_width_that_does_not_divide_into_heads(self, tmp_path):
        with pytest.raises(ValueError, match="`hidden_size` 30 is not a multiple of 8"):
            train(LabModel(hidden_size=30), None, tmp_path)


def test_it_has_the_skills_that_it_was_shown_most(miniature):
    """A miniature's base answers some held-out prompts and not others: tuning has something to do."""
    from taskdiv_assets.language_model.confidence import score

    items = held_out_items("validation", 1, ["copy", "first", "last", "max", "upper", "compare"])
    columns = score(miniature, [item.prompt for item in items], max_new_tokens=8).columns
    assert 0.2 < columns["mean_probability"].mean() < 0.99


def test_examples_in_docstrings():
    from taskdiv_assets.language_model import batching

    result = doctest.testmod(batching)
    assert result.attempted and not result.failed
