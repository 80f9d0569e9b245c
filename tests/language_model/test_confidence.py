"""Confidence against `generate`, its independence of the batch, and every way in which it can go wrong."""

import numpy as np
import pytest

from taskdiv_assets.language_model.confidence import SMALLEST, Confidences, score, statistics
from taskdiv_assets.language_model.loading import LanguageModel, end_tokens, load
from taskdiv_assets.pools.lab import pool_items

FLOATS = (
    "mean_probability",
    "first_probability",
    "min_probability",
    "sequence_log_probability",
    "mean_entropy",
    "mean_margin",
    "min_margin",
)


def lab_prompts(count_n: int) -> list[str]:
    return [item.prompt for item in pool_items(9, ["copy", "first", "last", "max", "upper", "compare"], 60, 20)][
        :count_n
    ]


def by_generate(lm: LanguageModel, prompt: str, max_new_tokens: int) -> dict[str, float]:
    """The second definition: transformers' own greedy generation of one prompt alone, and its logits afterwards."""
    import torch

    inputs = lm.tokenizer(prompt, return_tensors="pt")
    output = lm.model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        max_new_tokens=max_new_tokens,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=0,
    )
    tokens = output.sequences[0, inputs["input_ids"].shape[1] :]
    probabilities = torch.stack([logits[0] for logits in output.logits]).double().softmax(-1)
    chosen = probabilities[torch.arange(len(tokens)), tokens]
    top = probabilities.topk(2).values
    return {
        "generated_n": len(tokens),
        "truncated": int(tokens[-1]) not in end_tokens(lm),
        "mean_probability": float(chosen.mean()),
        "first_probability": float(chosen[0]),
        "min_probability": float(chosen.min()),
        "sequence_log_probability": float(chosen.log().sum()),
        "mean_entropy": float(torch.special.entr(probabilities).sum(-1).mean()),
        "mean_margin": float((top[:, 0] - top[:, 1]).mean()),
        "min_margin": float((top[:, 0] - top[:, 1]).min()),
    }


def assert_equals_generate(lm: LanguageModel, prompts: list[str], max_new_tokens: int) -> Confidences:
    scores = score(lm, prompts, max_new_tokens=max_new_tokens)
    columns = scores.columns()
    for row, prompt in enumerate(prompts):
        for name, expected in by_generate(lm, prompt, max_new_tokens).items():
            # float32 in other shapes; logits differ by about 1e-6
            assert columns[name][row] == pytest.approx(expected, rel=2e-5, abs=2e-5), (name, prompt)
    return scores


class TestAgainstGenerate:
    def test_on_the_lab(self, miniature):
        scores = assert_equals_generate(miniature, lab_prompts(40), 4)
        assert 0 < scores.truncated.mean() < 1  # both kinds are there
        assert scores.tokens_n == scores.generated_n.sum()

    def test_on_a_real_model_and_real_prompts(self, stories, dolly_prompts):
        short = [prompt for prompt in dolly_prompts if len(stories.tokenizer(prompt)["input_ids"]) < 400]
        assert_equals_generate(stories, short[:16], 12)

    def test_columns_are_those_of_the_table(self, miniature):
        columns = score(miniature, lab_prompts(5), max_new_tokens=6).columns()
        assert list(columns) == ["generated_n", "truncated", *FLOATS]
        assert columns["generated_n"].dtype == np.int32 and columns["truncated"].dtype == np.bool_
        assert all(columns[name].dtype == np.float64 for name in FLOATS)


class TestIndependenceOfTheBatch:
    """On one CPU thread in float32, not a bit of a prompt's statistics depends on what else is scored."""

    @pytest.mark.parametrize("seed", [0, 1])
    def test_on_the_lab(self, miniature, seed):
        prompts = lab_prompts(150)
        whole = score(miniature, prompts, max_new_tokens=6).columns()
        chosen = np.random.default_rng(seed).permutation(len(prompts))[:23]
        part = score(miniature, [prompts[row] for row in chosen], max_new_tokens=6).columns()
        for name, values in part.items():
            assert values.tobytes() == whole[name][chosen].tobytes(), name

    def test_on_a_real_model_with_long_and_short_prompts(self, stories, dolly_prompts):
        whole = score(stories, dolly_prompts, max_new_tokens=4).columns()
        for row in (3, 17, 42):
            alone = score(stories, [dolly_prompts[row]], max_new_tokens=4).columns()
            assert all(alone[name][0] == whole[name][row] for name in alone)


class TestEdges:
    def test_a_model_that_ends_at_once(self, miniature_folder):
        import torch

        lm = load(miniature_folder, dtype="float32", attention="sdpa")
        lm.model.generation_config.eos_token_id = list(range(181))  # whatever comes is the end
        columns = score(lm, lab_prompts(3), max_new_tokens=6).columns()
        assert columns["generated_n"].tolist() == [1, 1, 1]
        assert not columns["truncated"].any()
        assert np.array_equal(columns["mean_probability"], columns["first_probability"])
        assert np.array_equal(columns["min_margin"], columns["mean_margin"])
        assert torch.is_grad_enabled()

    def test_a_prompt_over_the_context_loses_its_beginning_and_keeps_its_bos(self, stories):
        story = "Once upon a time there was a little girl named Lily. " * 60
        cut = score(stories, [story, "Once upon a time"], max_new_tokens=12)
        assert cut.truncated_prompts_n == 1
        tokens = stories.tokenizer(story)["input_ids"]
        kept = tokens[:1] + tokens[-(512 - 12 - 1) :]
        import torch

        with torch.inference_mode():
            first = stories.model(torch.tensor([kept])).logits[0, -1].softmax(-1).max()
        assert cut.first_probability[0] == pytest.approx(float(first), rel=1e-5)

    def test_a_context_without_room(self, miniature):
        with pytest.raises(
            ValueError, match="max_new_tokens 64 leaves no room for a prompt in this model's context of 64"
        ):
            score(miniature, ["copy: abcd>"], max_new_tokens=64)

    def test_a_prompt_without_tokens_is_named(self, miniature):
        with pytest.raises(ValueError, match=r"prompt in row 1 \(''\) has no token"):
            score(miniature, ["copy: abcd>", ""], max_new_tokens=4)

    def test_logits_that_are_not_finite(self, miniature_folder):
        import torch

        lm = load(miniature_folder, dtype="float32", attention="sdpa")
        with torch.no_grad():
            lm.model.get_input_embeddings().weight[lm.tokenizer("q")["input_ids"][0]] = float("nan")
        with pytest.raises(ValueError, match=r"logits for the prompt in row \d are not finite \(token 1"):
            score(lm, ["copy: abcd>", "copy: abcq>"], max_new_tokens=4)

    def test_no_prompts(self, miniature):
        scores = score(miniature, [], max_new_tokens=4)
        assert scores.tokens_n == 0 and len(scores.mean_entropy) == 0

    def test_progress_ends_at_the_whole(self, miniature):
        told = []
        score(miniature, lab_prompts(150), max_new_tokens=2, progress=lambda *at: told.append(at))
        assert told == sorted(told) and told[-1] == (150, 150) and len(told) > 1

    def test_probabilities_are_never_0(self):
        import torch

        step = statistics(torch.tensor([[200.0, -200.0, 0.0]]))
        assert float(step.probability) == 1.0
        assert SMALLEST > 0 and np.float32(SMALLEST) == np.float32(SMALLEST) * 1
        assert np.isfinite([float(step.entropy), float(step.margin), float(step.log_probability)]).all()
