"""Train the lab's base model from scratch on the CPU: a tiny Llama with a tokenizer of 181 tokens."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from taskdiv_assets.experiment.lab_operations import instruction_words
from taskdiv_assets.language_model.quiet import quiet
from taskdiv_assets.language_model.tuning.steps import pack
from taskdiv_assets.pools.lab import pretraining_examples
from taskdiv_assets.selection.streams import stream_seed

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from taskdiv_assets.experiment import LabModel

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
ANSWER_CHARACTERS = string.ascii_lowercase + "ABCDEFGHIJKLMNOP" + string.digits + "*()- >"
# Words followed by a colon belong to an instruction; all other letters are single characters. So an answer has the same tokens
# alone and after its prompt.
SPLIT = r" ?[a-z]+(?=[a-z ]*: )|: |."
CONTEXT_TOKENS = 64
HEADS = 4
# transformers' own defaults (0.02; 10,000) suit wide models and long texts. With these defaults the base model of seed 1 answered
# 70% of inputs in wording 0 correctly, with our values 85%, after the same number of steps.
INITIALISER_STD = 0.05
ROPE_THETA = 100.0
ROW_TOKENS = 32  # examples are packed into rows of this length, which is 1.7 times faster than padding each example
WARMUP_STEPS = 50
FINAL_RATE = 0.05


class Pretraining(NamedTuple):
    """The results of the training: the loss of every step in nats a token, and the size of the model."""

    losses: tuple[float, ...]
    parameters_n: int


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with a token for each instruction word and each character of answers. It adds no BOS or EOS."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [PAD, EOS, UNKNOWN, ": ", *ANSWER_CHARACTERS, *instruction_words()]
    words = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def train(
    settings: LabModel,
    tasks: Sequence[str] | None,  # the tasks of a miniature lab; None for all 24 tasks
    folder: Path,
    progress: Callable[[int, int], None] | None = None,  # called with (steps done, steps in all)
) -> Pretraining:
    """Train the lab's base model, and write it to `folder` as safetensors with its tokenizer.

    The same settings and tasks give the same bytes on one machine. Only answers and their EOS carry loss. Raise ValueError if
    `hidden_size` is not a multiple of 2 × HEADS.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if settings.hidden_size % (2 * HEADS):
        raise ValueError(
            f"the lab's model has {HEADS} heads: `hidden_size` {settings.hidden_size} is not a multiple of {2 * HEADS}"
        )
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.hidden_size * 8 // 3,
        num_hidden_layers=settings.layers,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        initializer_range=INITIALISER_STD,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    examples = pretraining_examples(settings.seed, settings.steps * settings.batch_size, tasks)
    prompts = tokenizer([example.prompt for example in examples])["input_ids"]
    answers = tokenizer([example.response + EOS for example in examples])["input_ids"]
    pairs, size = list(zip(prompts, answers, strict=True)), settings.batch_size
    batches = [_pack(pairs[start : start + size]) for start in range(0, len(pairs), size)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(settings.seed, "lab", "initialisation"))
        model = LlamaForCausalLM(config)
    losses = _fit(model, batches, settings, progress)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return Pretraining(losses, model.num_parameters())


class PackedBatch(NamedTuple):
    """The examples of one step in rows of ROW_TOKENS. Tokens attend only to tokens of the same example."""

    tokens: torch.Tensor  # (rows, ROW_TOKENS)
    positions: torch.Tensor  # (rows, ROW_TOKENS) restarting at 0 with each example
    examples: torch.Tensor  # (rows, ROW_TOKENS) which example of the row; −1 is padding
    predicts: torch.Tensor  # (answers,) flat positions whose next token carries loss
    targets: torch.Tensor  # (answers,) those next tokens


def _pack(pairs: Sequence[tuple[list[int], list[int]]]) -> PackedBatch:
    import torch

    rows = pack(np.arange(len(pairs)), np.array([len(prompt) + len(answer) for prompt, answer in pairs]), ROW_TOKENS)
    tokens, positions, owners = (torch.zeros(len(rows), ROW_TOKENS, dtype=torch.long) for _ in range(3))
    owners -= 1
    predicts: list[int] = []
    targets: list[int] = []
    for row, members in enumerate(rows):
        start = 0
        for number, (prompt, answer) in enumerate(pairs[member] for member in members):
            end = start + len(prompt) + len(answer)
            tokens[row, start:end] = torch.tensor(prompt + answer)
            positions[row, start:end] = torch.arange(end - start)
            owners[row, start:end] = number
            predicts += range(row * ROW_TOKENS + start + len(prompt) - 1, row * ROW_TOKENS + end - 1)
            targets += answer
            start = end
    return PackedBatch(tokens, positions, owners, torch.tensor(predicts), torch.tensor(targets))


def _fit(
    model: LlamaForCausalLM,
    batches: Sequence[PackedBatch],
    settings: LabModel,
    progress: Callable[[int, int], None] | None,
) -> tuple[float, ...]:
    import torch
    from torch.nn.functional import cross_entropy

    steps = len(batches)
    warmup = min(WARMUP_STEPS, max(steps // 10, 1))
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 1 - (1 - FINAL_RATE) * (step - warmup) / max(steps - warmup, 1)),
    )
    causal = torch.ones(ROW_TOKENS, ROW_TOKENS, dtype=torch.bool).tril()
    losses = []
    model.train()
    for step, batch in enumerate(batches):
        mask = (batch.examples[:, :, None] == batch.examples[:, None, :]) & causal  # padding sees padding: no NaN
        output = model.model(input_ids=batch.tokens, position_ids=batch.positions, attention_mask=mask[:, None])
        logits = model.lm_head(output.last_hidden_state.flatten(0, 1)[batch.predicts])
        loss = cross_entropy(logits, batch.targets)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if progress:
            progress(step + 1, steps)
    return tuple(losses)
