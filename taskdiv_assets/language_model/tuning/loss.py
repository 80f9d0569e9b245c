"""The loss of one pass: the negative log-likelihood of the completions' tokens, in nats.

TRL's fused head makes logits only where a loss is, tile by tile: that is what makes a large vocabulary affordable. It goes from
the backbone to the head itself, past whatever a model does between the two (ModernBERT's decoder has a layer there) and past
scalings that it does not know. So both ways are compared once on a real batch, before the first step, and one pass is taken
forwards and backwards: a model that raises an error there, or whose adapter gets no gradient, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.memory import refuse_full
from taskdiv_assets.language_model.tuning.training_examples import IGNORED

if TYPE_CHECKING:
    import torch

    Inputs = Mapping[str, torch.Tensor]

TOLERANCE = {
    "float32": 1e-3,
    "bfloat16": 2e-2,
    "float16": 2e-2,
}  # relative; rounding stays far below, a skipped layer far above


def completion_loss(model: Any, inputs: Inputs, *, is_fused: bool) -> torch.Tensor:
    """Return the summed loss of one pass, in nats; differentiable.

    Args:
        model: what is trained.
        inputs: input_ids and labels, (rows, length) each, and what packing adds.
        is_fused: by TRL's fused head; False takes the model's own logits, (rows, length, vocabulary), and more memory.
    """
    if is_fused:
        total: torch.Tensor = -model(**inputs, fused_lm_head=True).log_probs.sum()
        return total
    from torch.nn.functional import cross_entropy

    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, use_cache=False).logits[:, :-1]
    wanted = inputs["labels"][:, 1:]
    return cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED, reduction="sum")


def why_not_fused(model: Any, inputs: Inputs, dtype: str) -> str:
    """Compare both losses on one pass, and return why the fused one cannot be used; empty if it can.

    Args:
        model: with TRL's fused head added; its training mode is kept.
        inputs: one pass.
        dtype: that the model computes in.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            own = float(completion_loss(model, inputs, is_fused=False))
            try:
                fused = float(completion_loss(model, inputs, is_fused=True))
            except Exception as error:  # of TRL or of the model: the model's own logits do without it
                refuse_full(error)
                return f"from the model's own logits, since TRL's fused head does not fit it ({type(error).__name__}: {error})"
    finally:
        model.train(was_training)
    if abs(fused - own) <= TOLERANCE.get(dtype, 2e-2) * max(abs(own), 1e-6):
        return ""
    return f"from the model's own logits, since TRL's fused head gives {fused:.4g} nats where they give {own:.4g}"


def why_not_trained(model: Any, inputs: Inputs, trained: Sequence[torch.nn.Parameter], *, is_fused: bool) -> str:
    """Take one pass forwards and backwards, and return why what is trained learns nothing from it; empty if it does.

    Args:
        model: in training mode.
        inputs: one pass with a loss.
        trained: weights of the adapter, or of the whole model; their gradients are cleared.
        is_fused: see `completion_loss`.
    """
    import torch

    try:
        torch.autograd.backward(completion_loss(model, inputs, is_fused=is_fused))
        has_gradient = any(value.grad is not None and bool(value.grad.any()) for value in trained)
    finally:
        for value in trained:
            value.grad = None
    return "" if has_gradient else "nothing that is trained changes its loss"
