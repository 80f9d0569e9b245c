"""Every layout of a step gives the same result, to rounding.

Layouts are padded or packed rows, one pass or several, one process or two, activations kept or not.
"""

import gzip
import json

import numpy as np
import pytest

from taskdiv_assets.language_model.tuning import IGNORED, WEIGHTS, Base, Example, choices, encode, tune, worker
from taskdiv_assets.language_model.tuning.choices import choose_packing, choose_recompute, keeps_examples_apart
from taskdiv_assets.language_model.tuning.process_group import command, tune_in_processes
from taskdiv_assets.language_model.tuning.steps import Layout, batch_of, draw_steps, lay_out, learnt_tokens_n
from taskdiv_assets.language_model.tuning.trl_parts import tensors
from taskdiv_assets.pools.lab import pool_items
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.tuning_settings import Tuning

TASKS = ["copy", "first", "last", "max", "upper", "compare"]
SETTINGS = Tuning(learning_rate=2e-3, epochs=2, rank=4, alpha=8, packing=False)
# A difference of one rounding (6e-8) grows over Adam's steps: by sixteen of them it was 1e-6 to 4e-6 here.
CLOSE = 1e-5


@pytest.fixture(scope="module")
def examples():
    return [Example(item.item_id, item.prompt, item.response) for item in pool_items(9, TASKS, 40, 12)][:63]


@pytest.fixture(scope="module")
def dolly(shared_data):
    """Return answers of Dolly as examples for the `stories` model."""
    with gzip.open(shared_data / "dolly" / "databricks-dolly-15k.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(60), strict=False)]
    return [Example(f"{n:03}", f"{row['instruction']}\n", row["response"]) for n, row in enumerate(rows)]


@pytest.fixture
def trained(tmp_path, examples, miniature_folder):
    """Return a function that trains with other settings, and returns the result and the weights."""
    from safetensors.numpy import load_file

    def run(name, rows=examples, base=miniature_folder, **update):
        out = tmp_path / name
        out.mkdir()
        result = tune(Base(base, "float32", "sdpa"), rows, SETTINGS.model_copy(update=update), seed=0, out=out)
        return result, load_file(out / WEIGHTS)

    return run


def same(first, second, tolerance=CLOSE):
    (result, weights), (other, others) = first, second
    np.testing.assert_allclose(other.losses, result.losses, atol=tolerance)
    assert weights.keys() == others.keys()
    for name, values in weights.items():
        np.testing.assert_allclose(others[name], values, atol=tolerance, err_msg=name)
    assert result.trained_tokens_n == other.trained_tokens_n


class TestSameResult:
    def test_packed(self, trained):
        packed = trained("packed", packing=True)
        assert packed[0].choices["rows"].startswith("packed rows: the experiment file asks for it")
        same(trained("padded"), packed)

    @pytest.mark.full
    def test_packed_on_real_text(self, trained, shared_data, dolly):
        base = shared_data / "models" / "stories260K"
        update = {"epochs": 1, "max_length": 256, "batch_size": 8}
        padded = trained("padded", dolly, base, **update)
        packed = trained("packed", dolly, base, packing=True, **update)
        assert padded[0].choices["rows"].startswith("one example a row")
        assert packed[0].choices["rows"].startswith("packed rows")
        same(padded, packed)

    def test_in_several_passes(self, trained):
        several = trained("several", pass_tokens=50)
        assert several[0].choices["passes"].startswith("4 to ")
        same(trained("one"), several)

    def test_activations_computed_again_give_the_same_bits(self, trained, monkeypatch):
        import torch
        from transformers.models.llama.modeling_llama import LlamaMLP

        trained("first")  # a model is tried once before its first training
        calls, forward = [], LlamaMLP.forward

        def counted(self, states):
            if torch.is_grad_enabled():  # not while it is looked at after loading
                calls.append(1)
            return forward(self, states)

        monkeypatch.setattr(LlamaMLP, "forward", counted)
        kept = trained("kept")
        once_n = len(calls)
        monkeypatch.setattr(choices, "free_bytes", lambda device: 1000)
        again = trained("again")
        assert len(calls) - once_n == 2 * once_n  # they really were
        assert again[0].choices["activations"].startswith("computed again in the backward pass: activations of ")
        assert kept[0].choices["activations"].startswith("kept: ")
        same(kept, again, tolerance=0)


class TestProcesses:
    @pytest.mark.full
    def test_two_processes_on_a_cpu(self, trained, tmp_path, examples, miniature_folder):
        """63 examples: the last step has 15 of them, 7 and 8 a process."""
        from safetensors.numpy import load_file

        out, folder = tmp_path / "two", tmp_path / "told"
        out.mkdir(), folder.mkdir()
        told, said = [], []
        result = tune_in_processes(
            Base(miniature_folder, "float32", "sdpa"),
            examples,
            SETTINGS,
            processes_n=2,
            seed=0,
            out=out,
            folder=folder,
            on_step=lambda *at: told.append(at),
            log=said.append,
        )
        same(trained("one"), (result, load_file(out / WEIGHTS)))
        assert [at[:2] for at in told] == [(step, 8) for step in range(1, 9)]
        assert said[0] == "training in 2 processes" and any(line.startswith("rows: ") for line in said)

    def test_the_command_line_is_torchruns(self, tmp_path):
        line = command(tmp_path, 8)
        assert line[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "8"]
        assert line[6:] == ["-m", "taskdiv_assets.language_model.tuning.worker", str(tmp_path)]

    @pytest.mark.full
    def test_a_refusal_comes_back_as_a_sentence(self, tmp_path, miniature_folder):
        out, folder = tmp_path / "two", tmp_path / "told"
        out.mkdir(), folder.mkdir()
        with pytest.raises(ValueError, match="^1 of 1 answers are blank"):
            tune_in_processes(
                Base(miniature_folder, "float32", "sdpa"), [Example("a", "copy: abcd>", " ")], SETTINGS, processes_n=2,
                seed=0, out=out, folder=folder,
            )  # fmt: skip

    @pytest.mark.parametrize("text", ["0", "two", "-1", "²"])
    def test_a_setting_that_is_no_number(self, monkeypatch, text):
        monkeypatch.setenv("TASKDIV_TRAINING_PROCESSES", text)
        with pytest.raises(ValueError, match=r"\$TASKDIV_TRAINING_PROCESSES is '.*'; expected a number of processes"):
            machine()


@pytest.mark.parametrize("rank", ["0", "1"])
def test_too_few_gpus_are_an_error_in_every_process(monkeypatch, rank):
    """Only the first process reports its error, so it must not begin to train."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="asks for 2 processes, and there are 1 GPUs"):
        worker._take_device()


class TestChoices:
    def test_the_largest_pass_counts_padding_and_an_example_that_is_longer(self):
        lengths = np.array([700] * 8 + [60] * 8)
        assert choices.widest_pass(lengths, [np.arange(16)], Layout(16_384)) == 16 * 700
        assert choices.widest_pass(np.array([2000, 10]), [np.arange(2)], Layout(1024)) == 2000

    def test_short_examples_are_not_packed(self, miniature):
        lengths = np.full(64, 12)
        choice = choose_packing(miniature, lengths, draw_steps(64, 16, 1, 0, 0), auto(), 64)
        assert choice.layout == Layout(16_384, None)
        assert choice.reason == "one example a row: a step has 192 tokens, too few to matter"

    def test_long_examples_of_one_length_are_not_packed(self, stories):
        choice = choose_packing(stories, np.full(64, 400), draw_steps(64, 16, 1, 0, 0), auto(), 512)
        assert choice.layout.row_tokens_n is None
        assert choice.reason == "one example a row: packed rows would be 0% less work"

    def test_long_examples_of_many_lengths_are_packed(self, stories):
        lengths = np.tile([20, 30, 60, 512], 16)
        choice = choose_packing(stories, lengths, draw_steps(64, 16, 1, 0, 0), auto(), 512)
        assert choice.layout == Layout(16_384, 512)
        assert choice.reason.endswith("% less work than one example a row")

    def test_a_model_that_lets_examples_see_each_other_is_not_packed(self, stories, monkeypatch):
        monkeypatch.setattr(choices, "keeps_examples_apart", lambda lm: False)
        lengths, steps = np.tile([20, 30, 60, 512], 16), draw_steps(64, 16, 1, 0, 0)
        assert choose_packing(stories, lengths, steps, auto(), 512).layout.row_tokens_n is None
        with pytest.raises(ValueError, match="lets examples of one row see each other; use `packing: false`"):
            choose_packing(stories, lengths, steps, SETTINGS.model_copy(update={"packing": True}), 512)

    def test_activations_are_kept_where_there_is_room(self, stories, monkeypatch):
        monkeypatch.setattr(choices, "free_bytes", lambda device: 2**30)
        kept = choose_recompute(stories, 1024)
        assert (kept.is_on, kept.reason) == (
            False, "kept: activations of 1,024 tokens take about 0.025 GiB, 1 GiB are free",
        )  # fmt: skip
        assert choose_recompute(stories, 100_000).is_on


def auto() -> Tuning:
    return Tuning(learning_rate=1e-3, epochs=1)


ARCHITECTURES = ["LlamaConfig", "GPT2Config", "Qwen3Config", "Gemma2Config", "BloomConfig", "MptConfig"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_whether_a_row_keeps_examples_apart_is_found_out(name, miniature):
    """By the loss of packed rows against that of single ones: Bloom and MPT know no positions, so theirs differ."""
    import torch
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if name == "MptConfig":
        sizes = {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128}
    elif name == "GPT2Config":
        sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    elif name not in ("BloomConfig",):
        sizes |= {"intermediate_size": 64, "max_position_embeddings": 128, "num_key_value_heads": 4, "head_dim": 8}
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**sizes)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)  # so that what stands before matters
    lm = miniature._replace(model=model)
    random = np.random.default_rng(0)
    rows = []
    for length in (5, 9, 17, 30):
        tokens = random.integers(1, 64, length).tolist()
        rows.append(encode_like(tokens))
    losses = [summed_loss(lm, rows, layout) for layout in (Layout(1000), Layout(1000, 64))]
    is_same = abs(losses[0] - losses[1]) < 1e-3
    assert keeps_examples_apart(lm) == is_same
    assert is_same == (name not in ("BloomConfig", "MptConfig"))


def encode_like(tokens):
    from taskdiv_assets.language_model.tuning import Encoded

    return Encoded(tokens, [IGNORED, *tokens[1:]], False)


def summed_loss(lm, rows, layout) -> float:
    import torch

    lengths = np.array([len(row.input_ids) for row in rows])
    total = 0.0
    for part in lay_out(np.arange(len(rows)), lengths, layout):
        batch = tensors(batch_of(rows, part, is_packed=layout.row_tokens_n is not None, padding=0), lm.device)
        labels = batch.pop("labels")[:, 1:]
        if "position_ids" in batch and lm.model.config.model_type in ("bloom", "mpt"):
            batch.pop("position_ids")
        with torch.inference_mode():
            logits = lm.model(**batch, use_cache=False).logits[:, :-1]
        total += float(torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="sum"))
    return total / learnt_tokens_n(rows, np.arange(len(rows)))


def test_labels_of_a_packed_row_are_those_of_its_examples(stories, dolly):
    """Only completions and their ends carry loss, in the tensors that the model is given."""
    rows = [encode(stories, example, 256) for example in dolly[:8]]
    lengths = np.array([len(row.input_ids) for row in rows])
    (part, *_) = lay_out(np.arange(8), lengths, Layout(16_384, 512))
    batch = batch_of(rows, part, is_packed=True, padding=0)
    for line, row in enumerate(part):
        learnt = [int(token) for token in batch.labels[line] if token != IGNORED]
        assert learnt == [token for n in row for token in rows[n].labels if token != IGNORED]
        assert (batch.labels[line] == np.where(batch.labels[line] == IGNORED, IGNORED, batch.input_ids[line])).all()
        for n in row:
            words = stories.tokenizer.decode([t for t in rows[n].labels if t != IGNORED], skip_special_tokens=True)
            assert words.strip()[:20] in dolly[n].response
