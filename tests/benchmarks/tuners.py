"""Ways to train on the steps of a course: ours, a plain loop, and TRL's trainer, each in its own process.

    python -m tests.benchmarks.tuners REQUEST RESULT

All ways use `tune` with another function in place of `fit`. So the model, LoRA's initial weights, examples, steps and layout
are the same. A way prepares its data before the clock starts, and returns a function to be timed. The clock measures the user
and system time of the process. With one thread, this equals the wall time on an idle machine.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from taskdiv_assets.language_model import tuning as package
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.tuning import IGNORED, Base, Example, tune
from taskdiv_assets.language_model.tuning.steps import Course, learnt_tokens_n
from taskdiv_assets.language_model.tuning.trainer import OnStep, fit
from taskdiv_assets.language_model.tuning.trl_parts import tensors, warmup_steps_n
from taskdiv_assets.tuning_settings import Tuning
from tests.benchmarks.fresh import ROOT, _forget_peak, _memory_mib

Run = Callable[[OnStep], None]
CHUNK_N = 128  # tokens whose logits `plain_chunks` makes at once
WARM_N = 32  # examples of a first, short training: imports, and what libraries make once


class Given(NamedTuple):
    """The arguments that `tune` passes to `fit`."""

    lm: LanguageModel
    model: Any
    course: Course
    tuning: Tuning
    scratch: Path
    recompute: bool


class Timed(NamedTuple):
    """The measurements of one training.

    Attributes:
        seconds: processor time of all of `fit`.
        stamps: seconds from the start to the end of each step.
        losses: loss of each step, nats a completion token.
        tokens_n: tokens of all examples, over all epochs.
        row_tokens_n: the same, with the padding of our layout.
        peak_mib: highest resident memory of the process during `fit`, including libraries and model.
        choices: the choices of `tune`.
    """

    seconds: float
    stamps: tuple[float, ...]
    losses: tuple[float, ...]
    tokens_n: int
    row_tokens_n: int
    peak_mib: float
    choices: Mapping[str, str]

    @property
    def step_s(self) -> float:
        """Mean seconds of a step. The first step is left out, because the setup precedes it."""
        return (self.stamps[-1] - self.stamps[0]) / (len(self.stamps) - 1)

    @property
    def padding(self) -> float:
        """Share of padding in our rows."""
        return 1 - self.tokens_n / self.row_tokens_n

    @property
    def ends_s(self) -> float:
        """Seconds before the first step and after the last step."""
        return self.seconds - len(self.stamps) * self.step_s


def ours(given: Given) -> Run:
    """Train by `fit`. Nothing is prepared before the clock starts."""
    lm, model, course, tuning, scratch, recompute = given

    def run(on_step: OnStep) -> None:
        fit(lm, model, course, tuning, recompute=recompute, on_step=on_step, keeper=None, scratch=scratch)

    return run


def plain(given: Given) -> Run:
    """Train by a simple loop: forward, cross entropy of all logits, backward, clip, AdamW. Tensors are prepared before."""
    return _loop(given, _all_logits)


def plain_few(given: Given) -> Run:
    """Train by the same loop, but compute the head only for tokens that carry loss. This is the fastest loop that we know."""
    return _loop(given, _completion_logits)


def _loop(given: Given, loss_of: Callable[[Any, dict[str, Any]], Any]) -> Run:
    import torch
    from transformers import get_scheduler

    lm, model, course, tuning, *_ = given
    steps = []
    for step in course.steps:
        passes = [tensors(batch, lm.device) for batch in course.passes(step, 0, 1)]
        steps.append((passes, max(learnt_tokens_n(course.examples, step), 1)))
    trained = [value for value in model.parameters() if value.requires_grad]

    def run(on_step: OnStep) -> None:
        optimizer = torch.optim.AdamW(trained, lr=tuning.rate, weight_decay=tuning.weight_decay, fused=True)
        warm_n = warmup_steps_n(tuning, len(steps))
        scheduler = get_scheduler(tuning.scheduler, optimizer, warm_n, len(steps))
        model.train()
        for place, (passes, learnt_n) in enumerate(steps):
            total = 0.0
            for batch in passes:
                loss = loss_of(model, batch) / learnt_n
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(trained, tuning.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            course.losses.append(total)
            on_step(place + 1, len(steps), total, 0)

    return run


def _all_logits(model: Any, batch: dict[str, Any]) -> Any:
    import torch

    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
    labels = batch["labels"][:, 1:].flatten()
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")


def _completion_logits(model: Any, batch: dict[str, Any]) -> Any:
    import torch

    inputs = {name: value for name, value in batch.items() if name != "labels"}
    causal = model.get_base_model()
    hidden = causal.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
    labels = batch["labels"][:, 1:]
    is_learnt = labels != IGNORED
    return torch.nn.functional.cross_entropy(causal.lm_head(hidden[is_learnt]), labels[is_learnt], reduction="sum")


def plain_chunks(given: Given) -> Run:
    """Return the loop of `plain_few` with CHUNK_N tokens' logits at once: each chunk's backward pass precedes the next chunk."""
    return _loop(given, _chunked)


def _chunked(model: Any, batch: dict[str, Any]) -> Any:
    import torch

    inputs = {name: value for name, value in batch.items() if name != "labels"}
    causal = model.get_base_model()
    labels = batch["labels"][:, 1:]
    is_learnt = labels != IGNORED
    hidden = causal.model(**inputs, use_cache=False).last_hidden_state[:, :-1][is_learnt]
    leaf, total = hidden.detach().requires_grad_(), 0.0
    for states, wanted in zip(leaf.split(CHUNK_N), labels[is_learnt].split(CHUNK_N), strict=True):
        loss = torch.nn.functional.cross_entropy(causal.lm_head(states), wanted, reduction="sum")
        loss.backward()
        total += loss.item()
    product = (hidden * leaf.grad).sum()  # its gradient is that of the loss
    return product - product.detach() + total


def sft(given: Given) -> Run:
    """Train by TRL's SFTTrainer with its own collation, loss and log. Each example is a padded row, in the course's order."""
    course, tuning = given.course, given.tuning
    order = np.concatenate(course.steps)
    if len(order) != len(course.steps) * tuning.batch_size:
        raise ValueError(
            f"{len(course.examples)} examples do not fill batches of {tuning.batch_size}: steps would differ"
        )
    settings = {
        "per_device_train_batch_size": tuning.batch_size,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    return _trl(given, order, settings)


def sft_packed(given: Given) -> Run:
    """Train with TRL's packing: rows of `max_length`. A step has as many rows as contain the tokens of one of our steps."""
    course, tuning = given.course, given.tuning
    order = np.concatenate(course.steps)
    step_tokens_n = course.lengths[order].sum() / len(course.steps)
    settings = {
        "per_device_train_batch_size": math.ceil(step_tokens_n / tuning.max_length),
        "max_length": tuning.max_length,
        "packing": True,
    }
    return _trl(given, order, settings)


def _trl(given: Given, order: Any, settings: Mapping[str, Any]) -> Run:
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    lm, model, course, tuning, scratch, recompute = given
    arguments = SFTConfig(
        output_dir=str(scratch), num_train_epochs=1, train_sampling_strategy="sequential", learning_rate=tuning.rate,
        lr_scheduler_type=tuning.scheduler, warmup_steps=warmup_steps_n(tuning, len(course.steps)),
        weight_decay=tuning.weight_decay, max_grad_norm=tuning.max_grad_norm, use_cpu=lm.device.type != "cuda", bf16=False,
        gradient_checkpointing=recompute, dataloader_pin_memory=False, logging_steps=1, save_strategy="no",
        report_to="none", disable_tqdm=True, log_level="error", **settings,
    )  # fmt: skip

    def run(on_step: OnStep) -> None:
        class Follower(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
                on_step(state.global_step, state.max_steps, 0.0, 0)

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **parts: Any) -> None:
                if "loss" in (logs or {}):
                    course.losses.append(float(logs["loss"]))

        examples = [course.examples[position] for position in order]
        columns = {name: [getattr(it, name) for it in examples] for name in ("input_ids", "labels")}
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_dict(columns), processing_class=lm.tokenizer,
            callbacks=[Follower()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()

    return run


def timed(way: str, base: Base, examples: Sequence[Example], tuning: Tuning) -> Timed:
    """Train once in this process by a way of this module."""
    prepare: Callable[[Given], Run] = globals()[way]
    stamps: list[float] = []
    found: dict[str, Any] = {}

    def exchanged(
        lm: LanguageModel, model: Any, course: Course, tuning: Tuning, *, recompute: bool, scratch: Path, **rest: Any
    ) -> None:
        run = prepare(Given(lm, model, course, tuning, scratch, recompute))
        _forget_peak()
        started = time.process_time()
        run(lambda *step: stamps.append(time.process_time() - started))
        found["seconds"] = time.process_time() - started
        found["peak_mib"] = _memory_mib("VmHWM")
        passes = [batch for step in course.steps for batch in course.passes(step, 0, 1)]
        found["row_tokens_n"] = sum(batch.input_ids.size for batch in passes)

    with mock.patch.object(package, "fit", exchanged), tempfile.TemporaryDirectory() as out:
        result = tune(base, examples, tuning, seed=0, out=Path(out))
    return Timed(
        stamps=tuple(stamps), losses=result.losses, tokens_n=result.trained_tokens_n, choices=result.choices, **found
    )


def measure(way: str, base: Base, examples: Sequence[Example], tuning: Tuning, warm_n: int = WARM_N) -> Timed:
    """Train once in a new interpreter, after a training of `warm_n` examples. Raise RuntimeError with the end of its stderr."""
    with tempfile.TemporaryDirectory() as folder:
        request, result = Path(folder) / "request.json", Path(folder) / "result.json"
        asked = {"way": way, "base": [str(base.folder), base.dtype, base.attention], "examples": examples}
        asked["warm_n"] = warm_n
        request.write_text(json.dumps({**asked, "tuning": tuning.model_dump(mode="json")}))
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.tuners", str(request), str(result)]
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)
        if done.returncode:
            raise RuntimeError(f"training, {way}, ended with {done.returncode}: {done.stderr[-2000:]}")
        found = Timed(**json.loads(result.read_text()))
    print(f"  {way}: {found.seconds:.2f} s, {1000 * found.step_s:.1f} ms a step, {found.peak_mib:.0f} MiB", flush=True)
    return found


def _in_this_process(request: Path, result: Path) -> None:
    import torch

    torch.set_num_threads(1)
    asked = json.loads(request.read_text())
    folder, dtype, attention = asked["base"]
    base, tuning = Base(Path(folder), dtype, attention), Tuning.model_validate(asked["tuning"])
    examples = [Example(*row) for row in asked["examples"]]
    timed(asked["way"], base, examples[: asked["warm_n"]], tuning.model_copy(update={"epochs": 1}))
    result.write_text(json.dumps(timed(asked["way"], base, examples, tuning)._asdict()))


if __name__ == "__main__":
    _in_this_process(Path(sys.argv[1]), Path(sys.argv[2]))
