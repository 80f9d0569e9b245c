"""Supervised fine-tuning: a LoRA adapter from chosen prompts and their answers, by TRL's SFTTrainer and PEFT.

In: a base model's folder, examples, hyper-parameters and a seed. Out: adapter_model.safetensors and
adapter_config.json, the same bytes every time on one machine and without any path in them. The order in which
examples are given does not matter. Resuming, QLoRA and several devices belong into `_arguments` and around
`_fit`.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from taskdiv_assets.language_model.loading import LanguageModel, context_tokens, load, quiet
from taskdiv_assets.streams import stream_seed

if TYPE_CHECKING:
    from peft import PeftModel

    from taskdiv_assets.experiment import Tuning

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
IGNORED = -100  # the label of a token that carries no loss
# Above this many parameters the activations of a batch do not fit beside the weights: trade time for memory.
CHECKPOINTING_ABOVE = 10**9


class Example(NamedTuple):
    """One prompt, already rendered by the experiment's template, and the answer that it was given."""

    prompt_id: str
    prompt: str
    response: str


class TuningResult(NamedTuple):
    """What came of one adapter's training.

    Attributes:
        examples_n: examples trained on.
        trained_tokens_n: tokens the model read in training, prompt and completion and EOS, once an epoch, no padding.
        final_loss: of the last step, nats a completion token.
        train_s: wall seconds of training, loading and set-up left out.
        losses: of every step.
        cut_n: examples that lost the beginning of their prompt, or the end of a long completion, to `max_length` or the
            model's context.
    """

    examples_n: int
    trained_tokens_n: int
    final_loss: float
    train_s: float
    losses: tuple[float, ...]
    cut_n: int


class Encoded(NamedTuple):
    """One example as tokens: labels are the tokens of the completion and its EOS, and IGNORED before them."""

    input_ids: list[int]
    labels: list[int]
    is_cut: bool


def tune(
    base_folder: Path,
    examples: Sequence[Example],
    tuning: Tuning,
    *,
    seed: int,
    dtype: str,
    attention: str,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> TuningResult:
    """Train one adapter and write it to `out`.

    LoRA on all linear layers (Hu et al., arXiv:2106.09685), loss on the completion and its EOS only, AdamW, linear
    decay after warm-up, gradients clipped at norm 1. Initialisation and data order have streams of their own from
    `seed`.

    Args:
        base_folder: a folder that `loading.load` can load.
        examples: prompts and answers; sorted by prompt_id before anything else.
        tuning: hyper-parameters.
        seed: the training seed.
        dtype: of the base; adapter weights are kept in float32.
        attention: attention implementation of the base.
        out: an existing folder.
        progress: called with (steps done, steps in all).

    Raises:
        ValueError: no example, a prompt_id twice, or a blank answer.
        FloatingPointError: the loss is no longer finite.
    """
    ordered = _checked(examples)
    with quiet(), _quiet_datasets(), _own_randomness():
        lm = load(base_folder, dtype=dtype, attention=attention)
        room = min(tuning.max_length, context_tokens(lm) or tuning.max_length)
        rows = [encode(lm, example, room) for example in ordered]
        recorder = _recorder(progress)
        started = time.perf_counter()
        model = _fit(lm, rows, tuning, seed, room, recorder)
        train_s = time.perf_counter() - started
    losses = tuple(recorder.losses)
    _save(model, out)
    tokens_n = tuning.epochs * sum(len(row.input_ids) for row in rows)
    return TuningResult(len(rows), tokens_n, losses[-1], train_s, losses, sum(row.is_cut for row in rows))


def _checked(examples: Sequence[Example]) -> list[Example]:
    """The examples by prompt_id."""
    if not examples:
        raise ValueError("no examples to train on; expected at least one prompt with its answer")
    ordered = sorted(examples)
    for before, after in itertools.pairwise(ordered):
        if before.prompt_id == after.prompt_id:
            raise ValueError(f"prompt {after.prompt_id} stands twice among the examples; expected each once")
    blank = [example.prompt_id for example in ordered if not example.response.strip()]
    if blank:
        raise ValueError(
            f"{len(blank)} of {len(ordered)} answers are blank, the first for prompt {blank[0]}; import answers"
        )
    return ordered


def encode(lm: LanguageModel, example: Example, room: int, *, has_end: bool = True) -> Encoded:
    """Tokens and labels of one example; `has_end`: its EOS is one of them.

    As TRL does it, prompt and completion are tokenised together, and the completion starts where the tokens differ
    from those of the prompt alone. Where both are over `room`, the prompt loses its beginning (but for a BOS), as it does
    when it is scored, so that the completion keeps at least half of the room; a longer completion loses its end. TRL
    cuts the end of both together, which would leave examples without anything to learn.
    """
    tokenizer: Any = lm.tokenizer
    if has_end and not tokenizer.eos_token:
        raise ValueError("the base model's tokenizer has no end-of-sequence token: nothing could be taught to end")
    end = tokenizer.eos_token if has_end else ""
    prompt: list[int] = tokenizer(example.prompt, verbose=False)["input_ids"]
    both: list[int] = tokenizer(example.prompt + example.response + end, verbose=False)["input_ids"]
    pairs = zip(prompt, both, strict=False)
    start = next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(prompt), len(both)))
    completion_n = min(len(both) - start, max(room - start, room // 2))
    prompt_n = min(start, room - completion_n)
    has_bos = 0 < prompt_n < start and both[0] == tokenizer.bos_token_id
    kept = both[: int(has_bos)] + both[start - prompt_n + int(has_bos) : start] if prompt_n else []
    completion = both[start : start + completion_n]
    return Encoded(kept + completion, [IGNORED] * len(kept) + completion, len(both) > room)


def _fit(lm: LanguageModel, rows: Sequence[Encoded], tuning: Tuning, seed: int, room: int, recorder: Any) -> PeftModel:
    """Train LoRA weights over `lm.model`."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTTrainer

    lora = LoraConfig(
        r=tuning.rank, lora_alpha=tuning.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    data = Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]})
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=lm.model,
            args=_arguments(lm, tuning, len(rows), seed, room, scratch),
            train_dataset=data,
            processing_class=lm.tokenizer,
            peft_config=lora,
            callbacks=[recorder],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    trained: PeftModel = trainer.model
    return trained


def _arguments(lm: LanguageModel, tuning: Tuning, rows_n: int, seed: int, room: int, scratch: str) -> Any:
    """TRL's settings: the experiment's hyper-parameters, nothing reported, nothing saved on the way."""
    from trl import SFTConfig

    is_gpu = lm.device.type == "cuda"
    steps_n = tuning.epochs * math.ceil(rows_n / tuning.batch_size)  # packing makes it fewer: then a ratio
    return SFTConfig(
        output_dir=scratch,
        num_train_epochs=tuning.epochs,
        per_device_train_batch_size=tuning.batch_size,
        learning_rate=tuning.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=tuning.warmup_ratio if tuning.packing else math.ceil(tuning.warmup_ratio * steps_n),
        weight_decay=tuning.weight_decay,
        max_grad_norm=1.0,
        max_length=room if tuning.packing else None,
        packing=tuning.packing,
        dataset_kwargs=None if tuning.packing else {"skip_prepare_dataset": True},
        seed=stream_seed(seed, "tuning", "initialisation") % 2**32,
        data_seed=stream_seed(seed, "tuning", "data order") % 2**32,
        bf16=is_gpu and lm.dtype == "bfloat16",
        fp16=False,
        use_cpu=not is_gpu,
        gradient_checkpointing=lm.model.num_parameters() > CHECKPOINTING_ABOVE,
        dataloader_pin_memory=is_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def _recorder(progress: Callable[[int, int], None] | None) -> Any:
    """A trainer's callback: it keeps every step's loss, tells how far it is, and stops where a loss is not finite."""
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):  # type: ignore[misc]  # mypy does not follow transformers: its class is Any
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            self.losses.append(float(logs["loss"]))
            if not math.isfinite(self.losses[-1]):
                raise FloatingPointError(
                    f"the loss is {self.losses[-1]} at step {state.global_step} of {state.max_steps}: lower "
                    f"`tuning.learning_rate` ({args.learning_rate:g}), or use `base_model: {{dtype: float32}}`"
                )
            if progress:
                progress(state.global_step, state.max_steps)

    return Recorder()


def _save(model: PeftModel, out: Path) -> None:
    """Weights and configuration as PEFT reads them, sorted, and without the name of a folder on this machine."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: state[name].contiguous().cpu() for name in sorted(state)}, out / WEIGHTS, metadata={"format": "pt"}
    )
    settings = model.peft_config["default"].to_dict() | {"base_model_name_or_path": None, "inference_mode": True}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()}
    (out / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Keep the bars of datasets, which packing draws, off the terminal."""
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Give the caller back the global random states that a trainer seeds."""
    import torch

    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
