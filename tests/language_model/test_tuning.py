"""Fine-tuning by TRL and PEFT: the same bytes for the same seed, loss on completions only, clear errors."""

import json
import random

import numpy as np
import pytest

from taskdiv_assets.language_model.loading import load
from taskdiv_assets.language_model.tuning import (
    CONFIG,
    IGNORED,
    WEIGHTS,
    Base,
    DivergedError,
    Example,
    HubName,
    TuningResult,
    encode,
    tune,
)
from taskdiv_assets.pools.lab import held_out_items, pool_items
from taskdiv_assets.tuning_settings import Tuning

TASKS = ["copy", "first", "last", "max", "upper", "compare"]
SETTINGS = Tuning(learning_rate=2e-3, epochs=2, rank=4, alpha=8)


@pytest.fixture(scope="module")
def examples():
    return [Example(item.item_id, item.prompt, item.response) for item in pool_items(9, TASKS, 40, 12)][:64]


@pytest.fixture
def train(miniature_folder, tmp_path, examples):
    """Return a function that trains an adapter in a new folder, and returns the result and the folder's files."""

    def run(
        name="adapter", *, rows=examples, settings=SETTINGS, seed=0, hub=None, **more
    ) -> tuple[TuningResult, dict[str, bytes]]:
        out = tmp_path / name
        out.mkdir()
        result = tune(Base(miniature_folder, "float32", "sdpa", hub), rows, settings, seed=seed, out=out, **more)
        return result, {path.name: path.read_bytes() for path in out.iterdir()}

    run.folder = tmp_path
    return run


class TestDeterminism:
    def test_same_seed_same_bytes_in_whatever_order_the_examples_come(self, train, examples):
        first, files = train("first")
        shuffled = random.Random(4).sample(examples, len(examples))
        again, others = train("again", rows=shuffled)
        assert set(files) == {WEIGHTS, CONFIG}
        assert files == others
        assert again.losses == first.losses

    def test_another_seed_redraws_initialisation_and_order(self, train):
        first, files = train("first")
        other, others = train("other", seed=1)
        assert files[WEIGHTS] != others[WEIGHTS] and files[CONFIG] == others[CONFIG]
        assert first.losses[0] != other.losses[0]  # another first batch: LoRA starts at the base whatever its draw

    def test_a_number_of_tokens_is_trained_whatever_the_examples(self, train, examples):
        settings = SETTINGS.model_copy(update={"tokens": 1_000})
        for name, rows in (("short", sorted(examples, key=lambda one: len(one.prompt))[:20]), ("all", examples)):
            result, _ = train(name, rows=rows, settings=settings)
            assert 1_000 <= result.trained_tokens_n < 1_030  # less than one example more
            assert f"{result.trained_tokens_n:,} tokens: `tokens` is 1,000" in result.choices["steps"]

    def test_global_random_states_are_given_back(self, train):
        import torch

        before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
        train()
        assert torch.equal(before[0], torch.random.get_rng_state())
        assert before[1:] == (random.getstate(), np.random.get_state()[1].tobytes())

    def test_no_path_of_this_machine_is_in_the_files(self, train, miniature_folder):
        _, files = train()
        config = json.loads(files[CONFIG])
        assert config["base_model_name_or_path"] is None
        assert config["target_modules"] == sorted(config["target_modules"])
        for part in (str(miniature_folder), str(train.folder)):
            assert all(part.encode() not in content for content in files.values())

    def test_a_base_on_the_hub_is_named_with_its_revision(self, train):
        _, files = train(hub=HubName("owner/base", "abc123"))
        config = json.loads(files[CONFIG])
        assert (config["base_model_name_or_path"], config["revision"]) == ("owner/base", "abc123")

    def test_dropout_draws_the_same_every_time(self, train):
        settings = SETTINGS.model_copy(update={"dropout": 0.3})
        _, files = train("first", settings=settings)
        _, others = train("again", settings=settings)
        _, without = train("without")
        assert files == others
        assert files[WEIGHTS] != without[WEIGHTS]


class TestLearning:
    @pytest.mark.parametrize("warmup_ratio", [0.06, 0.5, 1.0])
    def test_a_training_of_one_step_changes_something(self, train, warmup_ratio):
        from safetensors.numpy import load_file

        train(settings=SETTINGS.model_copy(update={"epochs": 1, "batch_size": 64, "warmup_ratio": warmup_ratio}))
        weights = load_file(train.folder / "adapter" / WEIGHTS)
        assert all(np.abs(value).sum() > 0 for name, value in weights.items() if "lora_B" in name)

    def test_the_tuned_model_beats_the_base_on_held_out_prompts(self, train, miniature_folder, examples):
        from peft import PeftModel

        from taskdiv_assets.language_model.loading import load

        result, _ = train(settings=SETTINGS.model_copy(update={"epochs": 12, "learning_rate": 1e-2, "rank": 8}))
        assert np.mean(result.losses[-4:]) < np.mean(result.losses[:4]) - 0.1
        assert result.final_loss == result.losses[-1]
        lm = load(miniature_folder, dtype="float32", attention="sdpa")
        items = held_out_items("validation", 1, TASKS)
        before = mean_loss(lm, items)
        tuned = PeftModel.from_pretrained(lm.model, train.folder / "adapter")
        assert mean_loss(lm._replace(model=tuned), items) < before - 0.05  # nats a token

    def test_counts(self, train, miniature, examples):
        result, _ = train()
        whole = [miniature.tokenizer(example.prompt + example.response + "<eos>")["input_ids"] for example in examples]
        assert result.examples_n == 64 and result.cut_n == 0
        assert result.trained_tokens_n == 2 * sum(map(len, whole))
        assert len(result.losses) == 2 * 64 // 16
        assert result.train_s > 0

    def test_progress_and_silence(self, train, capfd):
        told = []
        result, _ = train(on_step=lambda *at: told.append(at))
        assert [at[:2] for at in told] == [(step, 8) for step in range(1, 9)]
        assert [at[2] for at in told] == list(result.losses)
        assert told[-1][3] == result.trained_tokens_n
        assert capfd.readouterr() == ("", "")

    def test_few_examples_are_seen_until_there_are_enough_steps(self, train, examples):
        result, _ = train(rows=examples[:20], settings=SETTINGS.model_copy(update={"min_steps": 11}))
        assert len(result.losses) == 11
        assert "more than 2 epochs: `min_steps` is the floor" in result.choices["steps"]


def mean_loss(lm, items) -> float:
    """Return the mean over items of the loss on the answer and its EOS, in nats per token, one item at a time."""
    import torch

    losses = []
    for item in items:
        row = encode(lm, Example(item.item_id, item.prompt, item.response), 64)
        with torch.inference_mode():
            logits = lm.model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        labels = torch.tensor(row.labels[1:])
        losses.append(float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED)))
    return float(np.mean(losses))


class TestLabels:
    def test_only_the_completion_and_its_end_carry_loss(self, miniature):
        row = encode(miniature, Example("a", "spell backwards: abcd>", "dcba"), 64)
        tokens = miniature.tokenizer.convert_ids_to_tokens(row.input_ids)
        assert tokens == ["spell", " backwards", ": ", *"abcd>dcba", "<eos>"]
        assert row.labels == [IGNORED] * 8 + row.input_ids[8:]
        assert not row.is_cut

    def test_on_a_tokenizer_that_merges_and_adds_bos(self, stories):
        row = encode(stories, Example("a", "Who is Lily?\n", "Lily is a little girl."), 512)
        assert row.input_ids[0] == stories.tokenizer.bos_token_id
        assert row.input_ids[-1] == row.labels[-1] == stories.tokenizer.eos_token_id
        learnt = [token for token in row.labels if token != IGNORED]
        assert stories.tokenizer.decode(learnt, skip_special_tokens=True).strip() == "Lily is a little girl."

    def test_the_trainer_is_given_these_labels(self, train, miniature, examples, monkeypatch):
        """The loss of the very first step is that of the base on the completions of its batch: LoRA starts at zero."""
        result, _ = train(settings=SETTINGS.model_copy(update={"batch_size": 64, "epochs": 1}))
        import torch

        total, tokens_n = 0.0, 0
        for example in examples:
            row = encode(miniature, example, 64)
            with torch.inference_mode():
                logits = miniature.model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
            labels = torch.tensor(row.labels[1:])
            total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
            tokens_n += int((labels != IGNORED).sum())
        assert result.losses == (pytest.approx(total / tokens_n, rel=1e-4),)


class TestRefusals:
    def test_no_examples(self, train):
        with pytest.raises(ValueError, match="no examples"):
            train(rows=[])

    def test_a_blank_answer(self, train, examples):
        with pytest.raises(ValueError, match="1 of 65 answers are blank, the first for prompt zz"):
            train(rows=[*examples, Example("zz", "copy: abcd>", " \n")])

    def test_a_prompt_twice(self, train, examples):
        with pytest.raises(ValueError, match="occurs twice"):
            train(rows=[*examples, examples[0]])

    def test_a_completion_that_is_cut_is_counted(self, train):
        rows = [Example("long", "say again: abcd>", "abcd"), Example("short", "peak: 1234>", "4")]
        result, _ = train(rows=rows, settings=SETTINGS.model_copy(update={"max_length": 10}))
        assert result.cut_n == 1
        assert result.trained_tokens_n == 2 * (10 + 9)

    def test_nothing_to_learn_within_the_length(self, train, examples):
        with pytest.raises(
            ValueError, match="no example has a token to learn within 1 tokens; raise `tuning.max_length`"
        ):
            train(settings=SETTINGS.model_copy(update={"max_length": 1}))

    def test_memory_that_runs_out(self, train, monkeypatch):
        import torch

        from taskdiv_assets.language_model import tuning

        def fails(*args, **more):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

        monkeypatch.setattr(tuning, "fit", fails)
        with pytest.raises(
            ValueError, match=r"ran out of memory \(CUDA out of memory. Tried to allocate 2 GiB\); lower"
        ):
            train()

    def test_a_loss_that_is_not_finite(self, train):
        with pytest.raises(
            DivergedError, match=r"the loss is (nan|inf) at step \d+ of 8: lower `tuning.learning_rate`"
        ) as error:
            train(settings=SETTINGS.model_copy(update={"learning_rate": 1e30}))
        assert not list((train.folder / "adapter").iterdir())
        assert 1 < len(error.value.losses) <= 8 and not np.isfinite(error.value.losses[-1])

    def test_weights_that_are_not_finite_after_the_last_step(self, train, examples):
        settings = SETTINGS.model_copy(
            update={"learning_rate": 1e39, "epochs": 1, "batch_size": 8, "warmup_ratio": 0.5}
        )
        with pytest.raises(DivergedError, match="the weights are not finite after the last of 2 steps: lower"):
            train(rows=examples[:16], settings=settings)


@pytest.mark.parametrize("room", [8, 20, 40, 61, 200])
@pytest.mark.parametrize(
    ("prompt", "answer"), [("a b ", "c d e"), ("a b " * 30, "c d"), ("a ", "c d " * 40), ("a b " * 30, "c d " * 40)]
)
def test_what_is_too_long_keeps_the_end_of_the_prompt_and_the_start_of_the_answer(shared_data, prompt, answer, room):
    lm = load(shared_data / "models" / "stories260K", dtype="float32", attention="sdpa")
    whole = encode(lm, Example("x", prompt, answer), 10_000)
    cut = encode(lm, Example("x", prompt, answer), room)
    starts = [sum(label == IGNORED for label in row.labels) for row in (whole, cut)]
    prompts = [row.input_ids[:start] for row, start in zip((whole, cut), starts, strict=True)]
    completions = [row.input_ids[start:] for row, start in zip((whole, cut), starts, strict=True)]
    assert len(cut.input_ids) == min(room, len(whole.input_ids))
    bos_n = int(prompts[1][:1] == [lm.tokenizer.bos_token_id])
    kept = prompts[1][bos_n:]
    assert prompts[0][len(prompts[0]) - len(kept) :] == kept
    assert prompts[0][:bos_n] == prompts[1][:bos_n]
    assert completions[0][: len(completions[1])] == completions[1]
    assert len(completions[1]) >= min(len(completions[0]), room // 2)
    assert cut.is_cut == (len(whole.input_ids) > room)
    assert [label for label in cut.labels if label != IGNORED] == completions[1]
