"""TRL's SFTTrainer over our own steps: it brings the model, the optimiser, the schedule and several processes together.

What is ours is what a step sees (`steps`) and what is told of it. TRL's own way to a step costs a quarter more at the lab's
size: entropy and accuracy of every batch for its log, tensors of the data set collated anew, a walk over all modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskdiv_assets.language_model.faults import first_line
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.memory import refuse_full
from taskdiv_assets.language_model.tuning import checkpoints
from taskdiv_assets.language_model.tuning.checkpoints import Keeper
from taskdiv_assets.language_model.tuning.loss import completion_loss, why_not_fused, why_not_trained
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
from taskdiv_assets.selection.streams import stream_seed
from taskdiv_assets.settings import machine

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.tuning_settings import Tuning

WORKERS_VARIABLE = "TASKDIV_TUNING_WORKERS"  # set for the processes of one training, by the one that starts them
# Called after each step with (steps done, steps in all, loss in nats a completion token, tokens so far in this run).
OnStep = Callable[[int, int, float, int], None]


class DivergedError(FloatingPointError):
    """The loss is no longer finite; `losses` are those of all steps until then."""

    def __init__(self, message: str, losses: Sequence[float]) -> None:
        super().__init__(message)
        self.losses = tuple(losses)


@dataclass
class Course:
    """What is trained on, step by step, and what came of it so far.

    Attributes:
        examples: all of them, by prompt_id.
        steps: positions of each step's examples.
        layout: how they lie in rows and passes.
        padding: the token that fills a row up.
        seed: the training seed.
        first: steps that an interrupted run did.
        losses: of every step that is done, nats a completion token.
    """

    examples: Sequence[Encoded]
    steps: Sequence[IntArray]
    layout: Layout
    padding: int
    seed: int
    first: int = 0
    losses: list[float] = field(default_factory=list)
    lengths: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = np.array([len(example.input_ids) for example in self.examples])

    def __len__(self) -> int:
        """Steps that are left."""
        return len(self.steps) - self.first

    def __getitem__(self, place: int) -> IntArray:
        """Examples of a step that is left."""
        return self.steps[self.first + place]

    def passes(self, step: IntArray, process: int, processes_n: int) -> list[Batch]:
        """The arrays of one process's passes over a step."""
        is_packed = self.layout.row_tokens_n is not None
        mine = share(step, self.lengths, process, processes_n)
        if not len(mine):  # more processes than examples: the gradients of all are added up, so this one adds nothing
            batch = batch_of(self.examples, [(int(step[0]),)], is_packed=is_packed, padding=self.padding)
            return [batch._replace(labels=np.full_like(batch.labels, IGNORED))]
        laid = lay_out(mine, self.lengths, self.layout)
        return [batch_of(self.examples, rows, is_packed=is_packed, padding=self.padding) for rows in laid]

    def tokens_n(self, step: IntArray) -> int:
        """Tokens of a step's examples, padding left out."""
        return int(self.lengths[step].sum())


def fit(
    lm: LanguageModel,
    model: Any,
    course: Course,
    tuning: Tuning,
    *,
    recompute: bool,
    on_step: OnStep | None,
    keeper: Keeper | None,
    scratch: Path,
) -> str:
    """Train `model` over the steps of `course`; losses are added there.

    Args:
        lm: the base model, for its tokenizer and device.
        model: what is trained: a PEFT model, or the base itself.
        course: what is trained on.
        tuning: hyper-parameters.
        recompute: compute activations again in the backward pass.
        on_step: told after each step, in the first process.
        keeper: of checkpoints; goes on from the last one.
        scratch: a folder that the trainer may use.

    Returns: why the loss is not TRL's fused one; empty if it is.

    Raises:
        ValueError: the model cannot be trained.
        DivergedError: the loss is no longer finite.
    """
    from datasets import Dataset
    from transformers import PrinterCallback

    trainer = _trainer_class()(
        model=model,
        args=_arguments(lm, tuning, len(course.steps), recompute, scratch),
        # TRL looks at a data set before it starts; what it trains on comes from the course.
        train_dataset=Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}),
        processing_class=lm.tokenizer,
        callbacks=[_follower(course, on_step, keeper, scratch)],
    )
    trainer.course = course
    trainer.trained = [value for value in model.parameters() if value.requires_grad]
    for value in trainer.trained:  # TRL turns an adapter over 4 bits into bfloat16, where late, small steps are lost
        value.data = value.data.float()
    trainer.has_dropout = tuning.dropout > 0
    model.train()  # also every layer of the base: only then are activations computed again
    trainer.remove_callback(PrinterCallback)
    with _lean(model, trainer.trained):
        why = _why_not_fused(trainer, model, course, lm)
        trainer.is_fused = not why
        trainer.train()
    return why


def _why_not_fused(trainer: Any, model: Any, course: Course, lm: LanguageModel) -> str:
    """Compare both ways to the loss on one example, and try the one that is used; the answer holds for a kind of model.

    Raises:
        ValueError: the model cannot be trained.
    """
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
        except Exception as error:  # whatever an architecture raises
            refuse_full(error)
            why_not = f"{type(error).__name__}: {first_line(error)}"
        if why_not:
            raise ValueError(f"{type(lm.model).__name__} cannot be trained here ({why_not}); use another base model")
        _FUSED[kind] = why
    return _FUSED[kind]


_FUSED: dict[object, str] = {}  # by kind of model: a process trains many adapters over one base


@contextmanager
def _lean(model: Any, trained: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Leave out work whose results nobody reads: a fifth of a step at the lab's size.

    Entropy and accuracy of each token, and the head's products where no loss is (TRL leaves those out on a GPU itself); a walk
    over all modules to clear a few gradients. It reaches into TRL by names that another version may not have: then nothing
    is spared, and nothing else changes.
    """
    from trl.trainer import utils

    def zero_grad(set_to_none: bool = True) -> None:
        for value in trained:
            value.grad = None

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if hasattr(utils, "add_fused_lm_head"):
        utils.add_fused_lm_head(base, outputs=("log_probs",))
    compact = getattr(utils, "_use_triton", None)
    model.zero_grad = zero_grad
    try:
        if compact is not None:
            utils._use_triton = lambda device: True
        yield
    finally:
        if compact is not None:
            utils._use_triton = compact
        del model.zero_grad


def _arguments(lm: LanguageModel, tuning: Tuning, steps_n: int, recompute: bool, scratch: Path) -> Any:
    """TRL's settings: the experiment's hyper-parameters, nothing reported, nothing saved on the way."""
    from trl import SFTConfig

    is_gpu = lm.device.type == "cuda"
    return SFTConfig(
        output_dir=str(scratch),
        max_steps=steps_n,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        learning_rate=tuning.rate,
        lr_scheduler_type=tuning.scheduler,
        warmup_steps=warmup_steps_n(tuning, steps_n),
        weight_decay=tuning.weight_decay,
        max_grad_norm=tuning.max_grad_norm,
        max_length=None,
        router_aux_loss_coef=0.0,  # the loss that balances experts is no part of ours, and some models have none to give
        dataset_kwargs={"skip_prepare_dataset": True},
        bf16=is_gpu and lm.dtype == "bfloat16",
        fp16=False,
        use_cpu=not is_gpu,
        ddp_backend=("nccl" if is_gpu else "gloo") if workers_n() > 1 else None,
        gradient_checkpointing=recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False} if recompute else None,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def _trainer_class() -> Any:
    """SFTTrainer with our steps; made where torch is there."""
    import torch
    from torch.utils.data import DataLoader
    from trl import SFTTrainer

    class StepTrainer(SFTTrainer):  # type: ignore[misc]  # mypy does not follow trl: its class is Any
        course: Course
        trained: Sequence[torch.nn.Parameter]
        has_dropout: bool
        is_fused: bool

        def get_train_dataloader(self) -> DataLoader[Any]:
            steps: Any = self.course  # any object with a length and items is a data set
            return DataLoader(steps, batch_size=1, collate_fn=lambda steps: steps[0])

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
            return [next(epoch_iterator)], None  # what a step is divided by, it knows itself

        def _clip_grad_norm(self, model: Any) -> torch.Tensor:
            return torch.nn.utils.clip_grad_norm_(self.trained, self.args.max_grad_norm)

        def floating_point_ops(self, inputs: Any) -> int:
            return 0  # for a log that nobody writes, it walks over all parameters at each step

        def training_step(self, model: Any, inputs: IntArray, num_items_in_batch: object = None) -> torch.Tensor:
            accelerator, course = self.accelerator, self.course
            process, processes_n = accelerator.process_index, accelerator.num_processes
            # The gradients of several processes are averaged: each one's part is taken that many times.
            scale = processes_n / max(learnt_tokens_n(course.examples, inputs), 1)
            total = torch.zeros((), device=self.args.device)
            batches = course.passes(inputs, process, processes_n)
            for place, batch in enumerate(batches):
                if self.has_dropout:  # a draw of its own for every pass, so that a run that goes on draws the same
                    where = (self.state.global_step, process, place)
                    torch.manual_seed(stream_seed(course.seed, "tuning", "dropout", *where))
                is_last = place == len(batches) - 1
                with nullcontext() if is_last else accelerator.no_sync(model):
                    with self.compute_loss_context_manager():
                        tokens = tensors(batch, self.args.device)
                        loss = completion_loss(model, tokens, is_fused=self.is_fused) * scale
                    accelerator.backward(loss)
                total += loss.detach()
            course.losses.append(float(accelerator.reduce(total, "mean") if processes_n > 1 else total))
            return total

    return StepTrainer


def tensors(batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """A pass as the model takes it. Padding stands at the end, so causal attention never sees it: no mask is needed."""
    import torch

    arrays = {name: array for name, array in batch._asdict().items() if array is not None}
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def _follower(course: Course, on_step: OnStep | None, keeper: Keeper | None, scratch: Path) -> Any:
    """A callback that goes on from a checkpoint, looks at each loss, tells how far it is, and keeps checkpoints."""
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
            if not all(bool(value.isfinite().all()) for value in trained):  # the last update is seen by no loss
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


def warmup_steps_n(tuning: Tuning, steps_n: int) -> int:
    """Steps of a warm-up. Its first one is of size 0: a training of one step has none, or it would change nothing."""
    return min(int(tuning.warmup_ratio * steps_n), steps_n - 1)


def workers_n() -> int:
    """How many processes train together: more than one only in those that `processes.command` started."""
    return machine().tuning_workers


def _advice(args: Any) -> str:
    return f"lower `tuning.learning_rate` ({args.learning_rate:g}), or use `base_model: {{dtype: float32}}`"
