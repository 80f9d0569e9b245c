"""Checks of the loss of one pass: the negative log-likelihood of the completions' tokens in nats.

TRL's fused head makes logits only at places with a loss, which saves memory. It ignores layers between backbone and head
(ModernBERT's decoder) and scalings that it does not know. So both losses are compared once on a real example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.memory import refuse_full
from taskdiv_assets.language_model.tuning.trl_parts import completion_loss

if TYPE_CHECKING:
    import torch

    Inputs = Mapping[str, torch.Tensor]

# Largest relative difference of the two losses. Rounding stays far below; a skipped layer is far above.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 2e-2}


def why_not_fused(model: Any, inputs: Inputs, dtype: str) -> str:
    """Return why TRL's fused loss cannot be used for a pass, compared with the model's own logits; empty if it can."""
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
    if abs(fused - own) <= TOLERANCE.get(dtype, 2e-2) * max(abs(own), 1e-6):
        return ""
    return f"from the model's own logits, since TRL's fused head gives {fused:.4g} nats where they give {own:.4g}"


def why_not_trained(model: Any, inputs: Inputs, trained: Sequence[torch.nn.Parameter], *, is_fused: bool) -> str:
    """Return why no trained weight gets a gradient from one pass; empty if one does. All gradients are cleared."""
    import torch

    try:
        torch.autograd.backward(completion_loss(model, inputs, is_fused=is_fused))
        has_gradient = any(value.grad is not None and bool(value.grad.any()) for value in trained)
    finally:
        for value in trained:
            value.grad = None
    return "" if has_gradient else "nothing that is trained changes its loss"
