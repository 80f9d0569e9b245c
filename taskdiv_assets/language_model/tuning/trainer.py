"""Run TRL's trainer (see `trl_parts`) over our own steps (see `steps`), with progress after each step, and with checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskdiv_assets.language_model.faults import first_line, refuse_full
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.tuning import checkpoints
from taskdiv_assets.language_model.tuning.checkpoints import Keeper
from taskdiv_assets.language_model.tuning.steps import Course, batch_of, learnt_tokens_n
from taskdiv_assets.language_model.tuning.trl_parts import arguments, completion_loss, lean, tensors, trainer_class

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.tuning_settings import Tuning

# Largest relative difference of the fused loss and the model's own loss. Rounding causes far less, and a skipped layer far more.
TOLERANCE, TOLERANCE_16_BITS = 1e-3, 2e-2
LEAST_NATS = 0.01  # of a smaller loss, rounding is a larger share than TOLERANCE
# Called after each step with (steps done, steps in all, loss in nats a completion token, tokens so far in this run).
OnStep = Callable[[int, int, float, int], None]


class DivergedError(FloatingPointError):
    """The loss or the trained weights are not finite. `losses` are the losses of all steps so far."""

    def __init__(self, message: str, losses: Sequence[float]) -> None:
        super().__init__(message)
        self.losses = tuple(losses)


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
    """Train `model` over the steps of `course`, and append the losses to `course.losses`.

    Return why TRL's fused loss is not used; an empty text if it is used. Raise ValueError if the model cannot be trained, and
    DivergedError if the loss or the trained weights are not finite.
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
    with lean(model, trainer.trained) as trainer.head:
        why = _choose_loss(trainer, model, course, lm)
        trainer.is_fused = not why
        trainer.train()
    return why


def _choose_loss(trainer: Any, model: Any, course: Course, lm: LanguageModel) -> str:
    """Return why TRL's fused loss cannot be used, cached by kind of model; raise ValueError if the model cannot be trained."""
    kind = (type(model), type(getattr(model, "base_model", model)), lm.dtype, str(getattr(model, "config", "")))
    if kind not in _FUSED:
        learnt = next((step for step in course.steps if learnt_tokens_n(course.examples, step)), course.steps[0])
        rows = [int(one) for one in learnt if learnt_tokens_n(course.examples, np.array([one]))] or [int(learnt[0])]
        # The shortest row, because the model's own logits at every token take much memory.
        row = min(rows, key=lambda one: int(course.lengths[one]))
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


_FUSED: dict[object, str] = {}  # results of `_choose_loss`, since a process trains many adapters over one base model


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
                raise _diverged(f"the weights are not finite after the last of {state.max_steps} steps", args, course)

        def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            loss = course.losses[-1]
            if not math.isfinite(loss):
                raise _diverged(f"the loss is {loss} at step {state.global_step} of {state.max_steps}", args, course)
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


def _diverged(what: str, args: Any, course: Course) -> DivergedError:
    advice = f"lower `tuning.learning_rate` ({args.learning_rate:g}), or use `base_model: {{dtype: float32}}`"
    return DivergedError(f"{what}: {advice}", course.losses)


def why_not_fused(model: Any, inputs: Mapping[str, torch.Tensor], dtype: str) -> str:
    """Return why TRL's fused loss of a pass cannot replace the model's own loss; empty if both agree.

    The fused head ignores layers between backbone and head (ModernBERT's decoder) and scalings that it does not know.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            own = float(completion_loss(model, inputs, is_fused=False))
            try:
                fused = float(completion_loss(model, inputs, is_fused=True))
            except Exception as error:  # of TRL or of the model; the model's own logits can still be used
                refuse_full(error)
                return f"from the model's own logits, since TRL's fused head does not fit it ({type(error).__name__}: {error})"
    finally:
        model.train(was_training)
    if abs(fused - own) <= (TOLERANCE if dtype == "float32" else TOLERANCE_16_BITS) * max(abs(own), LEAST_NATS):
        return ""
    return f"from the model's own logits, since TRL's fused head gives {fused:.4g} nats where they give {own:.4g}"


def why_not_trained(
    model: Any, inputs: Mapping[str, torch.Tensor], trained: Sequence[torch.nn.Parameter], *, is_fused: bool
) -> str:
    """Return why no trained weight gets a gradient from one pass; empty if at least one does. All gradients are cleared."""
    import torch

    try:
        torch.autograd.backward(completion_loss(model, inputs, is_fused=is_fused))
        has_gradient = any(value.grad is not None and bool(value.grad.any()) for value in trained)
    finally:
        for value in trained:
            value.grad = None
    return "" if has_gradient else "nothing that is trained changes its loss"
