"""The log-probabilities of completion tokens over a large vocabulary on a CPU, with two thirds of TRL's matrix products.

TRL's fused head multiplies hidden states and head in the forward pass, and again in the backward pass, because it keeps no
logits. Here the logits of a block of tokens are kept until their gradient is computed, which happens in the forward pass. With
Gemma 3 270M (262,144 tokens), 400 tokens take 5 s of processor time instead of 16 s. The operations on each number are TRL's,
in the same order, so trained weights are bit-identical. Most operations change a tensor in place, in parts that fit into the
processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.batching import KERNEL_ROWS, LOGITS_AT_ONCE, VECTOR
from taskdiv_assets.language_model.token_statistics import rows_at_once

if TYPE_CHECKING:
    import torch


class CompletionHead:
    """Stand-in for TRL's function of hidden states and head (`trl_parts.lean`).

    This class calls TRL's own function for devices other than a CPU, for number formats other than float32, for autocast, for a
    head that is trained or has a bias, for logits that are scaled or capped, for a temperature other than 1, for outputs other
    than log-probabilities, and if there are no tokens.
    """

    def __init__(self, theirs: Any) -> None:
        self.theirs = theirs
        self.gradient = -1.0  # of the loss, with respect to the log-probability of each completion token

    def apply(
        self,
        hidden: torch.Tensor,  # (tokens, width)
        weight: torch.Tensor,  # (vocabulary, width)
        bias: torch.Tensor | None,
        targets: torch.Tensor,  # (tokens,)
        temperature: float,
        tile_n: int,  # TRL multiplies this many rows of the head at once
        softcapping: float | None,
        scale: float,
        outputs: Sequence[str],
    ) -> tuple[torch.Tensor | None, ...]:
        """Return the log-probabilities of `targets`, (tokens,), and the four optional outputs of TRL's function.

        These four are None, except for `outputs` that are left to TRL's own function.
        """
        import torch

        is_plain = (temperature, softcapping, scale, tuple(outputs)) == (1.0, None, 1.0, ("log_probs",))
        is_single = hidden.device.type == "cpu" and hidden.dtype == weight.dtype == torch.float32
        is_cast = torch.is_autocast_enabled("cpu")
        if bias is not None or weight.requires_grad or not (len(hidden) and is_plain and is_single) or is_cast:
            rest = (temperature, tile_n, softcapping, scale, outputs)
            theirs: tuple[torch.Tensor | None, ...] = self.theirs.apply(hidden, weight, bias, targets, *rest)
            return theirs
        is_learnt = torch.is_grad_enabled() and hidden.requires_grad
        found = _function().apply(hidden, weight, targets, tile_n, self.gradient if is_learnt else None)
        return found, None, None, None, None


@cache
def _function() -> Any:
    import torch

    class LogProbability(torch.autograd.Function):
        """Log-probabilities of targets. `gradient` is the loss's expected derivative by each of them; None if not needed."""

        @staticmethod
        def forward(
            ctx: Any, hidden: Any, weight: Any, targets: Any, tile_n: int, gradient: float | None
        ) -> torch.Tensor:
            ends = _block_ends(len(hidden), weight.shape[0])
            blocks = zip(hidden.tensor_split(ends), targets.tensor_split(ends), strict=True)
            found = [_block(states, weight, own, tile_n, gradient) for states, own in blocks]
            if gradient is not None:
                ctx.save_for_backward(torch.cat([of_hidden for _, of_hidden in found]))
                ctx.gradient = gradient
            return torch.cat([log_probabilities for log_probabilities, _ in found])

        @staticmethod
        def backward(ctx: Any, gradients: torch.Tensor) -> tuple[Any, ...]:
            (of_hidden,) = ctx.saved_tensors
            # The factors are exactly 1 if the gradients are as expected.
            return of_hidden * (gradients / ctx.gradient)[:, None], None, None, None, None

    return LogProbability


def _block_ends(tokens_n: int, vocabulary_n: int) -> list[int]:
    """Return where all blocks except the last one end.

    A block has at most about LOGITS_AT_ONCE logits. But VECTOR tokens are allowed in a block even if they have more logits.
    A last block of fewer than KERNEL_ROWS tokens is joined to the block before it, since another kernel multiplies so few rows.
    """
    block_n = max(VECTOR, LOGITS_AT_ONCE // vocabulary_n // VECTOR * VECTOR)
    ends = list(range(block_n, tokens_n, block_n))
    return ends[:-1] if ends and tokens_n - ends[-1] < KERNEL_ROWS else ends


def _block(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, tile_n: int, gradient: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probabilities of a block, and the gradient of the loss with respect to the block's hidden states.

    This gradient is 0 if `gradient` is None.
    """
    import torch

    parts = torch.split(weight, tile_n)
    tiles = [hidden @ part.T for part in parts]
    largest, sums = hidden.new_full((len(hidden),), float("-inf")), hidden.new_zeros(len(hidden))
    for tile in tiles:
        before = largest
        largest = torch.maximum(before, tile.amax(-1))
        added = [torch.exp_(some - most[:, None]).sum(-1) for some, most in _together(tile, largest)]
        sums = sums * torch.exp(before - largest) + torch.cat(added)
    normaliser = largest + sums.log()
    places = [((targets // tile_n) == number).nonzero()[:, 0] for number in range(len(tiles))]
    columns = targets % tile_n
    own = hidden.new_empty(len(hidden))
    for tile, rows in zip(tiles, places, strict=True):
        own[rows] = tile[rows, columns[rows]]
    of_hidden = torch.zeros_like(hidden)
    if gradient is not None:
        for tile, rows, part in zip(tiles, places, parts, strict=True):
            for some, log_sum in _together(tile, normaliser):
                some.sub_(log_sum[:, None]).exp_()
            learnt = gradient * (1 - tile[rows, columns[rows]])
            for some, _ in _together(tile, normaliser):
                some.mul_(-gradient)
            tile[rows, columns[rows]] = learnt
            of_hidden.addmm_(tile, part)
    return own - normaliser, of_hidden


def _together(tile: torch.Tensor, numbers: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Return groups of a tile's rows that fit into the cache, each with its part of `numbers` (one number for each row)."""
    import torch

    rows_n = rows_at_once(tile)
    return zip(torch.split(tile, rows_n), torch.split(numbers, rows_n), strict=True)
