"""Checks of the loss of one pass, the negative log-likelihood of the completions' tokens in nats.

TRL's fused head makes logits only where a loss is, tile by tile, which makes a large vocabulary affordable. It skips whatever a
model does between backbone and head (ModernBERT's decoder has a layer there) and scalings that it does not know. So both ways are
compared once on a real batch, before the first step, and one pass is taken forwards and backwards. A model that raises an error
there, or whose adapter gets no gradient, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.memory import refuse_full
from taskdiv_assets.language_model.tuning.trl_parts import completion_loss

if TYPE_CHECKING:
    import torch

    Inputs = Mapping[str, torch.Tensor]

# Relative; rounding stays far below, a skipped layer far above.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 2e-2}


def why_not_fused(model: Any, inputs: Inputs, dtype: str) -> str:
    """Compare both losses on one pass, and return why the fused one cannot be used; empty if it can.

    The model has TRL's fused head already; its training mode is kept.
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
    """Take one pass forwards and backwards, and return why the trained weights learn nothing from it; empty if they do.

    The model is in training mode, the pass has a loss, and the gradients of the weights are cleared.
    """
    import torch

    try:
        torch.autograd.backward(completion_loss(model, inputs, is_fused=is_fused))
        has_gradient = any(value.grad is not None and bool(value.grad.any()) for value in trained)
    finally:
        for value in trained:
            value.grad = None
    return "" if has_gradient else "nothing that is trained changes its loss"
