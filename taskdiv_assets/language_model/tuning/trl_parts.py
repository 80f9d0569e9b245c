"""All parts of TRL that we use: its SFTTrainer with our own training step, and private parts of TRL and transformers.

For the lab's model, TRL's own step is a quarter slower: it logs entropy and accuracy, collates again, and visits all modules.
`tests/language_model/test_trl_parts.py` fails if a new version changes a part that we use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.tuning.completion_head import CompletionHead
from taskdiv_assets.language_model.tuning.steps import Batch, Course, IntArray, learnt_tokens_n
from taskdiv_assets.language_model.tuning.training_examples import IGNORED
from taskdiv_assets.selection.streams import stream_seed
from taskdiv_assets.storage.machine import machine

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

    from taskdiv_assets.tuning_settings import Tuning


def arguments(lm: LanguageModel, tuning: Tuning, steps_n: int, recompute: bool, scratch: Path) -> Any:
    """Return TRL's settings: the experiment's hyper-parameters, without reports and without intermediate saving."""
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
        router_aux_loss_coef=0.0,  # our loss does not balance experts, and some models cannot compute that
        dataset_kwargs={"skip_prepare_dataset": True},
        bf16=is_gpu and lm.dtype == "bfloat16",
        fp16=False,
        use_cpu=not is_gpu,
        ddp_backend=("nccl" if is_gpu else "gloo") if machine().tuning_workers > 1 else None,
        gradient_checkpointing=recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False} if recompute else None,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def trainer_class() -> Any:
    """Return a subclass of SFTTrainer with our own data loader, training step and gradient clipping.

    The caller must set the attributes of an instance (`course`, `trained`, …).
    """
    import torch
    from torch.utils.data import DataLoader
    from trl import SFTTrainer  # here, so that an import of this module does not import TRL

    class StepTrainer(SFTTrainer):  # type: ignore[misc]  # mypy does not follow trl: its class is Any
        course: Course
        trained: Sequence[torch.nn.Parameter]
        has_dropout: bool
        is_fused: bool
        head: CompletionHead

        def get_train_dataloader(self) -> DataLoader[Any]:
            steps: Any = self.course  # any object with a length and items is a data set
            return DataLoader(steps, batch_size=1, collate_fn=lambda steps: steps[0])

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
            return [next(epoch_iterator)], None  # `training_step` computes the divisor of a step itself

        def _clip_grad_norm(self, model: Any) -> torch.Tensor:
            return torch.nn.utils.clip_grad_norm_(self.trained, self.args.max_grad_norm)

        def floating_point_ops(self, inputs: Any) -> int:
            return 0  # TRL would visit all parameters at each step, for a log that is not written

        def training_step(self, model: Any, inputs: IntArray, num_items_in_batch: object = None) -> torch.Tensor:
            accelerator, course = self.accelerator, self.course
            process, processes_n = accelerator.process_index, accelerator.num_processes
            # The gradients of several processes are averaged, so each process multiplies its part by their number.
            scale = processes_n / max(learnt_tokens_n(course.examples, inputs), 1)
            self.head.gradient, total = -scale, torch.zeros((), device=self.args.device)
            batches = course.passes(inputs, process, processes_n)
            for place, batch in enumerate(batches):
                if self.has_dropout:  # each pass has its own stream, so that a continued run draws the same numbers
                    step = self.state.global_step
                    torch.manual_seed(stream_seed(course.seed, "tuning", "dropout", step, process, place))
                with nullcontext() if place == len(batches) - 1 else accelerator.no_sync(model):
                    with self.compute_loss_context_manager():
                        tokens = tensors(batch, self.args.device)
                        loss = completion_loss(model, tokens, is_fused=self.is_fused) * scale
                    accelerator.backward(loss)
                total += loss.detach()
            course.losses.append(float(accelerator.reduce(total, "mean") if processes_n > 1 else total))
            return total

    return StepTrainer


@contextmanager
def lean(model: Any, trained: Sequence[torch.nn.Parameter]) -> Iterator[CompletionHead]:
    """Make TRL leave out work whose results are not used. For the lab's model this work takes a fifth of a step's time.

    TRL computes entropy and accuracy, and visits all modules to clear gradients. On a CPU, it also computes logits at tokens
    without loss, and it computes all logits twice (see `completion_head`). If a version of TRL lacks a private name that this
    function replaces, TRL does the work as usual. Yield the object that replaces TRL's `_ChunkedLogProbFunction`.
    """
    from trl.trainer import utils

    def zero_grad(set_to_none: bool = True) -> None:
        for value in trained:
            value.grad = None

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if hasattr(utils, "add_fused_lm_head"):
        utils.add_fused_lm_head(base, outputs=("log_probs",))
    head = CompletionHead(getattr(utils, "_ChunkedLogProbFunction", None))
    ours = {"_use_triton": lambda device: True, "_ChunkedLogProbFunction": head}
    theirs = {name: getattr(utils, name) for name in ours if hasattr(utils, name)}
    model.zero_grad = zero_grad
    try:
        for name in theirs:
            setattr(utils, name, ours[name])
        yield head
    finally:
        for name, value in theirs.items():
            setattr(utils, name, value)
        del model.zero_grad


def completion_loss(model: Any, inputs: Mapping[str, torch.Tensor], *, is_fused: bool) -> torch.Tensor:
    """Return the summed loss of one pass in nats, from TRL's fused head if `is_fused`, else from all logits."""
    if is_fused:
        total: torch.Tensor = -model(**inputs, fused_lm_head=True).log_probs.sum()
        return total
    from torch.nn.functional import cross_entropy

    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, use_cache=False).logits[:, :-1]
    wanted = inputs["labels"][:, 1:]
    return cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED, reduction="sum")


def tensors(batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """Return the arrays of a batch as tensors on `device`, which are keyword arguments of the model. None arrays are left out.

    The model needs no attention mask, because the padding is at the end, and causal attention ignores it there.
    """
    import torch

    arrays = {name: array for name, array in batch._asdict().items() if array is not None}
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def warmup_steps_n(tuning: Tuning, steps_n: int) -> int:
    """Return the number of warm-up steps. A training of one step has none, since the first step of a warm-up has size 0."""
    return min(int(tuning.warmup_ratio * steps_n), steps_n - 1)
