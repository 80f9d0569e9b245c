"""One training: TRL's trainer (`trl_parts`) over our own steps (`steps`), with checkpoints and progress after each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskdiv_assets.language_model.faults import first_line
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.memory import refuse_full
from taskdiv_assets.language_model.tuning import checkpoints
from taskdiv_assets.language_model.tuning.checkpoints import Keeper
from taskdiv_assets.language_model.tuning.loss import why_not_fused, why_not_trained
from taskdiv_assets.language_model.tuning.steps import (
    Batch,
    IntArray,
    Layout,
    batch_of,
    lay_out,
    learnt_tokens_n,
    share,
)
from taskdiv_assets.language_model.tuning.training_examples import IGNORED, Encoded
from taskdiv_assets.language_model.tuning.trl_parts import arguments, lean, tensors, trainer_class

if TYPE_CHECKING:
    from taskdiv_assets.tuning_settings import Tuning

# Called after each step with (steps done, steps in all, loss in nats a completion token, tokens so far in this run).
OnStep = Callable[[int, int, float, int], None]


class DivergedError(FloatingPointError):
    """The loss or the trained weights are not finite. `losses` are those of all steps so far."""

    def __init__(self, message: str, losses: Sequence[float]) -> None:
        super().__init__(message)
        self.losses = tuple(losses)


@dataclass
class Course:
    """The plan of one training and the losses so far. Its items are the steps that remain."""

    examples: Sequence[Encoded]  # all of them, by prompt_id
    steps: Sequence[IntArray]  # positions of each step's examples
    layout: Layout
    padding: int  # the token that fills up a row
    seed: int
    first: int = 0  # number of steps that an interrupted run did
    losses: list[float] = field(default_factory=list)  # loss of every completed step, nats a completion token
    lengths: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = np.array([len(example.input_ids) for example in self.examples])

    def __len__(self) -> int:
        return len(self.steps) - self.first

    def __getitem__(self, place: int) -> IntArray:
        return self.steps[self.first + place]

    def passes(self, step: IntArray, process: int, processes_n: int) -> list[Batch]:
        """Return the arrays of one process's passes over a step."""
        is_packed = self.layout.row_tokens_n is not None
        mine = share(step, self.lengths, process, processes_n)
        if not len(mine):  # more processes than examples: this process adds a gradient of 0
            batch = batch_of(self.examples, [(int(step[0]),)], is_packed=is_packed, padding=self.padding)
            return [batch._replace(labels=np.full_like(batch.labels, IGNORED))]
        laid = lay_out(mine, self.lengths, self.layout)
        return [batch_of(self.examples, rows, is_packed=is_packed, padding=self.padding) for rows in laid]

    def tokens_n(self, step: IntArray) -> int:
        return int(self.lengths[step].sum())


def fit(
    lm: LanguageModel,  # the base, for its tokenizer and device
    model: Any,  # a PEFT model, or the base itself
    course: Course,
    tuning: Tuning,
    *,
    recompute: bool,  # compute activations again in the backward pass
    on_step: OnStep | None,  # called after each step, in the first process
    keeper: Keeper | None,
    scratch: Path,  # a folder for the trainer
) -> str:
    """Train `model` over the steps of `course`, append the losses to `course.losses`, and return why the fused loss is not used.

    Raise ValueError if the model cannot be trained, and DivergedError if the loss or the trained weights are not finite.
    """
    from datasets import Dataset
    from transformers import PrinterCallback

    trainer = trainer_class()(
        model=model,
        args=arguments(lm, tuning, len(course.steps), recompute, scratch),
        # TRL inspects a data set before it starts; the training data come from the course.
        train_dataset=Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}),
        processing_class=lm.tokenizer,
        callbacks=[_follower(course, on_step, keeper, scratch)],
    )
    trainer.course = course
    trainer.trained = [value for value in model.parameters() if value.requires_grad]
    for value in trainer.trained:  # TRL turns an adapter over a 4-bit base model into bfloat16, which loses small steps
        value.data = value.data.float()
    trainer.has_dropout = tuning.dropout > 0
    model.train()  # sets all layers of the base model too, which recomputing activations needs
    trainer.remove_callback(PrinterCallback)
    with lean(model, trainer.trained):
        why = _why_not_fused(trainer, model, course, lm)
        trainer.is_fused = not why
        trainer.train()
    return why


def _why_not_fused(trainer: Any, model: Any, course: Course, lm: LanguageModel) -> str:
    """Return why TRL's fused loss cannot be used, cached by kind of model; raise ValueError if the model cannot be trained."""
    kind = (type(model), type(getattr(model, "base_model", model)), lm.dtype, str(getattr(model, "config", "")))
    if kind not in _FUSED:
        learnt = next((step for step in course.steps if learnt_tokens_n(course.examples, step)), course.steps[0])
        row = next((int(one) for one in learnt if learnt_tokens_n(course.examples, np.array([one]))), int(learnt[0]))
        is_packed = course.layout.row_tokens_n is not None
        batch = batch_of(course.examples, [(row,)], is_packed=is_packed, padding=course.padding)
        inputs = tensors(batch, trainer.args.device)
        try:
            with trainer.compute_loss_context_manager():
                why = why_not_fused(model, inputs, lm.dtype)
                why_not = why_not_trained(model, inputs, trainer.trained, is_fused=not why)
        except Exception as error:  # any error of an architecture
            refuse_full(error)
            why_not = f"{type(error).__name__}: {first_line(error)}"
        if why_not:
            raise ValueError(f"{type(lm.model).__name__} cannot be trained here ({why_not}); use another base model")
        _FUSED[kind] = why
    return _FUSED[kind]


_FUSED: dict[object, str] = {}  # results of `_why_not_fused`, since a process trains many adapters over one base model


def _follower(course: Course, on_step: OnStep | None, keeper: Keeper | None, scratch: Path) -> Any:
    """Return a callback that restores a checkpoint, checks each loss, reports progress and stores checkpoints."""
    from transformers import TrainerCallback

    class Follower(TrainerCallback):  # type: ignore[misc]  # mypy does not follow transformers: its class is Any
        tokens_n = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            found = keeper.last(len(course.steps), parts["model"]) if keeper else None
            if found is None:
                return
            checkpoints.restore(found, parts["model"], parts["optimizer"], parts["lr_scheduler"])
            course.losses[:] = found.losses
            course.first = state.global_step = len(found.losses)

        def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            trained = (value for value in parts["model"].parameters() if value.requires_grad)
            if not all(bool(value.isfinite().all()) for value in trained):  # the last update is not in any loss
                raise DivergedError(
                    f"the weights are not finite after the last of {state.max_steps} steps: {_advice(args)}",
                    course.losses,
                )

        def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            loss = course.losses[-1]
            if not math.isfinite(loss):
                raise DivergedError(
                    f"the loss is {loss} at step {state.global_step} of {state.max_steps}: {_advice(args)}",
                    course.losses,
                )
            if not state.is_world_process_zero:
                return
            self.tokens_n += course.tokens_n(course.steps[state.global_step - 1])
            if on_step:
                on_step(state.global_step, state.max_steps, loss, self.tokens_n)
            if keeper and keeper.is_due() and state.global_step < state.max_steps:
                path = scratch / "checkpoint.safetensors"
                standing = (parts["model"], parts["optimizer"], parts["lr_scheduler"], course.losses, keeper.of)
                keeper.keep(lambda: checkpoints.save(path, *standing), path)

    return Follower()


def _advice(args: Any) -> str:
    return f"lower `tuning.learning_rate` ({args.learning_rate:g}), or use `base_model: {{dtype: float32}}`"
