"""Confidence compared with `generate`, its independence of the batch, and every way in which scoring can fail."""

import itertools

import numpy as np
import pytest

from taskdiv_assets.language_model import confidence as module
from taskdiv_assets.language_model.confidence import Confidences, Scorer, score
from taskdiv_assets.language_model.loading import LanguageModel, end_tokens, load
from taskdiv_assets.language_model.token_statistics import FLOATS, SMALLEST, statistics
from taskdiv_assets.pools.lab import pool_items


def lab_prompts(count_n: int) -> list[str]:
    return [item.prompt for item in pool_items(9, ["copy", "first", "last", "max", "upper", "compare"], 60, 20)][
        :count_n
    ]


def by_generate(lm: LanguageModel, prompt: str, max_new_tokens: int) -> dict[str, float]:
    """Compute the statistics from transformers' own greedy generation of one prompt alone, and its logits."""
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
    columns = scores.columns
    for row, prompt in enumerate(prompts):
        for name, expected in by_generate(lm, prompt, max_new_tokens).items():
            # float32 in other shapes; logits differ by about 1e-6
            assert columns[name][row] == pytest.approx(expected, rel=2e-5, abs=2e-5), (name, prompt)
    return scores


class TestAgainstGenerate:
    def test_on_the_lab(self, miniature):
        scores = assert_equals_generate(miniature, lab_prompts(40), 4)
        assert 0 < scores.columns["truncated"].mean() < 1  # both kinds are there
        assert scores.tokens_n == scores.columns["generated_n"].sum()

    def test_on_a_real_model_and_real_prompts(self, stories, dolly_prompts):
        short = [prompt for prompt in dolly_prompts if len(stories.tokenizer(prompt)["input_ids"]) < 400]
        assert_equals_generate(stories, short[:16], 12)

    def test_columns_are_those_of_the_table(self, miniature):
        columns = score(miniature, lab_prompts(5), max_new_tokens=6).columns
        assert list(columns) == ["generated_n", "truncated", *FLOATS]
        assert columns["generated_n"].dtype == np.int32 and columns["truncated"].dtype == np.bool_
        assert all(columns[name].dtype == np.float64 for name in FLOATS)


class TestIndependenceOfTheBatch:
    """On one CPU thread in float32, no bit of a prompt's statistics depends on the other prompts."""

    @pytest.mark.parametrize("seed", [0, 1])
    def test_on_the_lab(self, miniature, seed):
        prompts = lab_prompts(150)
        whole = score(miniature, prompts, max_new_tokens=6).columns
        chosen = np.random.default_rng(seed).permutation(len(prompts))[:23]
        part = score(miniature, [prompts[row] for row in chosen], max_new_tokens=6).columns
        for name, values in part.items():
            assert values.tobytes() == whole[name][chosen].tobytes(), name

    @pytest.mark.full
    def test_on_a_real_model_with_long_and_short_prompts(self, stories, dolly_prompts):
        whole = score(stories, dolly_prompts, max_new_tokens=4).columns
        for row in (3, 17, 42):
            alone = score(stories, [dolly_prompts[row]], max_new_tokens=4).columns
            assert all(alone[name][0] == whole[name][row] for name in alone)

    @pytest.mark.parametrize("new_tokens", [1, 7])
    def test_rows_that_leave_the_batch_change_nothing(self, miniature, monkeypatch, new_tokens):
        """The other way that keeps the promise: every batch full, no row leaves it."""
        prompts = lab_prompts(200)
        free = score(miniature, prompts, max_new_tokens=new_tokens).columns
        monkeypatch.setattr(module, "rows_matter", lambda lm: True)
        fixed = score(miniature, prompts, max_new_tokens=new_tokens).columns
        assert all(free[name].tobytes() == fixed[name].tobytes() for name in free)

    def test_rows_leave_the_batch(self, miniature, monkeypatch):
        """What the promise is kept for: fewer rows are computed than prompts times steps."""
        computed = []
        forward = miniature.model.forward
        monkeypatch.setattr(
            miniature.model, "forward", lambda **kwargs: computed.append(kwargs["input_ids"].shape) or forward(**kwargs)
        )
        scores = score(miniature, lab_prompts(200), max_new_tokens=30)
        started = sum(rows for rows, width in computed if width > 1)
        decoded = sum(rows for rows, width in computed if width == 1)
        assert scores.tokens_n - 200 <= decoded < 0.7 * started * 29

    def test_where_the_number_of_rows_matters_none_leaves(self, miniature, monkeypatch):
        monkeypatch.setattr(module, "rows_matter", lambda lm: True)
        computed = []
        forward = miniature.model.forward
        monkeypatch.setattr(
            miniature.model, "forward", lambda **kwargs: computed.append(len(kwargs["input_ids"])) or forward(**kwargs)
        )
        score(miniature, lab_prompts(20), max_new_tokens=6)
        assert len(set(computed)) == 1 and computed[0] >= 128


class TestResume:
    def test_what_is_known_is_left_out_and_the_rest_comes_out_the_same(self, miniature):
        prompts = lab_prompts(150)
        whole = score(miniature, prompts, max_new_tokens=5).columns
        known = np.random.default_rng(0).random(150) < 0.6
        seen = []
        for positions, columns in Scorer(miniature, prompts, max_new_tokens=5).run(known):
            seen += positions.tolist()
            assert all(columns[name].tobytes() == whole[name][positions].tobytes() for name in columns)
        assert sorted(seen) == np.flatnonzero(~known).tolist()


class TestOfThePromptItself:
    def test_against_one_prompt_alone(self, miniature):
        import torch

        prompts = lab_prompts(60)
        columns = score(miniature, prompts, max_new_tokens=4, of="prompt").columns
        for row, prompt in enumerate(prompts):
            ids = torch.tensor(miniature.tokenizer(prompt)["input_ids"])
            with torch.inference_mode():
                probabilities = miniature.model(ids[None]).logits[0, :-1].double().softmax(-1)
            own = probabilities[torch.arange(len(ids) - 1), ids[1:]]
            top = probabilities.topk(2).values
            expected = {
                "generated_n": len(ids) - 1,
                "mean_probability": own.mean(),
                "first_probability": own[0],
                "min_probability": own.min(),
                "sequence_log_probability": own.log().sum(),
                "mean_entropy": torch.special.entr(probabilities).sum(-1).mean(),
                "mean_margin": (top[:, 0] - top[:, 1]).mean(),
                "min_margin": (top[:, 0] - top[:, 1]).min(),
            }
            for name, value in expected.items():
                assert columns[name][row] == pytest.approx(float(value), rel=2e-5, abs=2e-5), (name, prompt)
        assert not columns["truncated"].any()

    @pytest.mark.full
    def test_it_does_not_depend_on_the_batch(self, stories, dolly_prompts):
        whole = score(stories, dolly_prompts, max_new_tokens=4, of="prompt").columns
        part = score(stories, dolly_prompts[10:17], max_new_tokens=4, of="prompt").columns
        assert all(part[name].tobytes() == whole[name][10:17].tobytes() for name in part)

    def test_one_token_says_nothing_of_itself(self, miniature):
        with pytest.raises(ValueError, match="in row 1 has one token, which cannot be predicted"):
            score(miniature, ["copy: abcd>", "a"], max_new_tokens=4, of="prompt")


class TestMemory:
    """Memory runs out: the errors that torch raises, at the places where torch raises them."""

    @pytest.mark.parametrize("kind", ["gpu", "cpu"])
    def test_batches_are_halved_and_every_prompt_is_scored(self, miniature, monkeypatch, kind):
        import torch

        prompts = lab_prompts(200)
        whole = score(miniature, prompts, max_new_tokens=3).columns
        forward, sizes = miniature.model.forward, []

        def small(**kwargs):
            rows_n = len(kwargs["input_ids"])
            if rows_n > 100:
                if kind == "gpu":
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
            sizes.append(rows_n)
            return forward(**kwargs)

        monkeypatch.setattr(module, "rows_matter", lambda lm: False)  # asked before memory is short
        monkeypatch.setattr(miniature.model, "forward", small)
        told = []
        halved = score(miniature, prompts, max_new_tokens=3, log=told.append).columns
        assert all(halved[name].tobytes() == whole[name].tobytes() for name in whole)
        assert max(sizes) <= 100
        assert "memory ran out on cpu with" in told[0] and "using 64 rows now" in told[0]
        assert len(told) <= 4  # later batches start small

    def test_no_room_for_one_prompt(self, miniature, monkeypatch):
        import torch

        def none(**kwargs):
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore.")

        monkeypatch.setattr(module, "rows_matter", lambda lm: False)
        monkeypatch.setattr(miniature.model, "forward", none)
        with pytest.raises(
            ValueError, match=r"cpu has too little memory for one prompt of 1\d tokens, continuation included"
        ):
            score(miniature, ["copy: abcd>"], max_new_tokens=4)

    def test_a_batch_that_was_only_filled_up_is_made_smaller(self, miniature, monkeypatch):
        """One prompt stands in a whole step of rows: the rest of them are copies, and go first."""
        import torch

        forward, sizes = miniature.model.forward, []

        def small(**kwargs):
            sizes.append(len(kwargs["input_ids"]))
            if sizes[-1] > 8:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(**kwargs)

        monkeypatch.setattr(module, "rows_matter", lambda lm: False)
        monkeypatch.setattr(miniature.model, "forward", small)
        told = []
        scores = score(miniature, ["copy: abcd>"], max_new_tokens=2, log=told.append)
        assert scores.columns["generated_n"][0] == 2 and sizes[0] == 64 and sizes[-1] <= 8
        assert "the last digits of statistics may depend on the batch" in told[-1]

    def test_another_error_is_none_of_ours(self, miniature, monkeypatch):
        def broken(**kwargs):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        monkeypatch.setattr(module, "rows_matter", lambda lm: False)
        monkeypatch.setattr(miniature.model, "forward", broken)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            score(miniature, ["copy: abcd>"], max_new_tokens=4)


class TestEdges:
    def test_a_model_that_ends_at_once(self, miniature_folder):
        import torch

        lm = load(miniature_folder, dtype="float32", attention="sdpa")
        lm.model.generation_config.eos_token_id = list(range(181))  # whatever comes is the end
        columns = score(lm, lab_prompts(3), max_new_tokens=6).columns
        assert columns["generated_n"].tolist() == [1, 1, 1]
        assert not columns["truncated"].any()
        assert np.array_equal(columns["mean_probability"], columns["first_probability"])
        assert np.array_equal(columns["min_margin"], columns["mean_margin"])
        assert torch.is_grad_enabled()

    def test_a_prompt_over_the_context_loses_its_beginning_and_keeps_its_bos(self, stories):
        story = "Once upon a time there was a little girl named Lily. " * 60
        cut = score(stories, [story, "Once upon a time"], max_new_tokens=12)
        assert cut.cut.tolist() == [0]
        tokens = stories.tokenizer(story)["input_ids"]
        kept = tokens[:1] + tokens[-(512 - 12 - 1) :]
        import torch

        with torch.inference_mode():
            first = stories.model(torch.tensor([kept])).logits[0, -1].softmax(-1).max()
        assert cut.columns["first_probability"][0] == pytest.approx(float(first), rel=1e-5)

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
        with pytest.raises(ValueError, match=r"logits for prompt in row \d \(its continuation\) are not finite"):
            score(lm, ["copy: abcd>", "copy: abcq>"], max_new_tokens=4)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_a_model_without_a_key_value_cache_is_refused_by_name(self, miniature, dtype):
        import torch
        from transformers import MambaConfig, MambaForCausalLM

        config = MambaConfig(vocab_size=181, hidden_size=16, num_hidden_layers=1, state_size=4)
        model = MambaForCausalLM(config).eval().to(getattr(torch, dtype))
        lm = miniature._replace(model=model, dtype=dtype)
        with pytest.raises(
            ValueError, match="MambaForCausalLM cannot continue prompts here: it keeps no key-value cache"
        ):
            score(lm, lab_prompts(3), max_new_tokens=3)
        assert score(lm, lab_prompts(3), max_new_tokens=3, of="prompt").columns["generated_n"].min() > 1

    def test_no_prompts(self, miniature):
        scores = score(miniature, [], max_new_tokens=4)
        assert scores.tokens_n == 0 and len(scores.columns["mean_entropy"]) == 0

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

    def test_a_token_that_cannot_come_adds_nothing_to_the_entropy(self):
        import torch

        step = statistics(torch.tensor([[0.0, 0.0, float("-inf")]]))
        assert float(step.entropy) == pytest.approx(np.log(2)) and float(step.margin) == 0.0


class TestWhereNoBitsArePromised:
    """bfloat16, in which a GPU computes: as few batches as possible, and numbers close to those of float32."""

    @pytest.mark.full
    def test_batches_are_neighbours_by_length_and_every_prompt_is_scored(self, stories, dolly_prompts, shared_data):
        lm = load(shared_data / "models" / "stories260K", dtype="bfloat16", attention="sdpa")
        scorer = Scorer(lm, dolly_prompts, max_new_tokens=4)
        sizes = [len(tokens) for tokens in scorer.rows]
        found = scorer._groups()
        assert sorted(row for group in found for row in group.positions) == list(range(len(dolly_prompts)))
        assert len(found) < 6
        edges = [(max(sizes[r] for r in g.positions), min(sizes[r] for r in g.positions)) for g in found]
        assert all(before[1] >= after[0] for before, after in itertools.pairwise(edges))
        columns = score(lm, dolly_prompts, max_new_tokens=1).columns
        exact = score(stories, dolly_prompts, max_new_tokens=1).columns
        # bfloat16 keeps 8 bits: a probability is off by a few hundredths
        assert np.abs(columns["mean_probability"] - exact["mean_probability"]).mean() < 0.02
