"""Statistics of next-token distributions, and their sums over a text's tokens, on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from math import gcd
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

SMALLEST = float(np.finfo(np.float32).tiny)  # floor of probabilities, so that none is 0
AT_ONCE = 2**18  # logits; with 1 MiB on a CPU, all passes but the first read from its cache
LARGE_VOCABULARY = 2**14
LEAST_LOG = -1e30  # finite, so that 0 × LEAST_LOG is 0
FLOATS = (
    "mean_probability", "first_probability", "min_probability", "sequence_log_probability", "mean_entropy", "mean_margin",
    "min_margin",
)  # fmt: skip


class Step(NamedTuple):
    """Statistics of each distribution, in float32 except `token`. Log-probabilities and entropies are in nats."""

    token: torch.Tensor  # the likeliest, or the text's own
    probability: torch.Tensor  # of that token, at least SMALLEST
    log_probability: torch.Tensor
    entropy: torch.Tensor
    margin: torch.Tensor  # probability of the likeliest token minus the probability of the second

    @property
    def numbers(self) -> torch.Tensor:
        import torch

        return torch.stack([self.probability, self.log_probability, self.entropy, self.margin]).double()


def statistics(
    logits: torch.Tensor,  # (…, vocabulary)
    tokens: torch.Tensor | None = None,  # (…) tokens of a text; None: the likeliest tokens
) -> Step:
    """Return statistics of each distribution, and of one token: the likeliest token, or the text's own token (`tokens`)."""
    import torch

    rows_n = rows_at_once(logits)
    if len(logits) > rows_n and logits.device.type == "cpu":
        own = repeat(None) if tokens is None else torch.split(tokens, rows_n)
        return _joined(list(map(statistics, torch.split(logits, rows_n), own)))
    log_probabilities = logits.float().log_softmax(-1)
    best, likeliest = _largest(log_probabilities)
    if tokens is None:
        tokens, log_probability = likeliest, best
    else:
        log_probability = log_probabilities.gather(-1, tokens[..., None])[..., 0]
    probabilities = log_probabilities.exp()
    # A log-probability of -inf is clamped, so that a token of probability 0 adds 0. A product and a sum are used because the
    # result of a dot product depends on the row's place in memory.
    entropy = -log_probabilities.clamp_(min=LEAST_LOG).mul_(probabilities).sum(-1)
    # A second maximum without the likeliest token takes half the time of `topk`.
    second = probabilities.scatter_(-1, likeliest[..., None], -1.0).amax(-1)
    probability = log_probability.exp().clamp(min=SMALLEST)
    return Step(tokens, probability, log_probability, entropy, best.exp() - second)


def likeliest_and_log_sum(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the likeliest token of each row of logits (rows, vocabulary), and the logarithm of the row's sum of exponentials."""
    import torch

    rows_n = rows_at_once(logits)
    if len(logits) > rows_n and logits.device.type == "cpu":
        tokens, sums = zip(*map(likeliest_and_log_sum, torch.split(logits, rows_n)), strict=True)
        return torch.cat(tokens), torch.cat(sums)
    return _largest(logits)[1], logits.logsumexp(-1)


def rows_at_once(logits: torch.Tensor) -> int:
    """Return a number of rows with about AT_ONCE logits in total. The total is a multiple of 32 (see `batching`)."""
    row_n = max(1, logits.numel() // max(1, len(logits)))
    step = 32 // gcd(32, row_n)
    return max(step, AT_ONCE // row_n // step * step)


def _joined(steps: Sequence[Step]) -> Step:
    import torch

    return Step(*(torch.cat(parts) for parts in zip(*steps, strict=True)))


def _largest(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest value of each row and its first place. For a large vocabulary, two steps take a quarter of the time."""
    part_n = gcd(values.shape[-1], 512)
    if values.device.type != "cpu" or values.shape[-1] < LARGE_VOCABULARY or part_n < 64:
        found: tuple[torch.Tensor, torch.Tensor] = values.max(-1)
        return found
    parts = values.view(*values.shape[:-1], -1, part_n)
    best, part = parts.amax(-1).max(-1)
    place = parts.take_along_dim(part[..., None, None], -2)[..., 0, :].argmax(-1)
    return best, part * part_n + place


class Totals:
    """Sums and minima over the tokens of each row so far, on the model's device."""

    def __init__(self, rows_n: int, device: torch.device) -> None:
        import torch

        self.counted_n = torch.zeros(rows_n, dtype=torch.int32, device=device)
        self.sums = torch.zeros((4, rows_n), dtype=torch.float64, device=device)
        self.least = torch.full((2, rows_n), float("inf"), dtype=torch.float64, device=device)  # probability, margin
        self.first = torch.full((rows_n,), float("nan"), dtype=torch.float64, device=device)
        self.has_ended = torch.zeros(rows_n, dtype=torch.bool, device=device)

    def add(
        self,
        rows: torch.Tensor,  # (r,) which rows these numbers belong to, each once
        numbers: torch.Tensor,  # (4, r)
        is_counted: torch.Tensor,  # (r,) False: ignored
    ) -> None:
        import torch

        is_first = is_counted & (self.counted_n[rows] == 0)
        self.first[rows] = torch.where(is_first, numbers[0], self.first[rows])
        self.counted_n[rows] += is_counted.int()
        self.sums[:, rows] += numbers.where(is_counted, 0.0)
        self.least[:, rows] = torch.minimum(self.least[:, rows], numbers[[0, 3]].where(is_counted, float("inf")))

    def columns(self, real_n: int) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of the confidence table for the first `real_n` rows, without prompt_id and confidence."""
        counted_n, ended = (values[:real_n].cpu().numpy() for values in (self.counted_n, self.has_ended))
        sums, least = (values[:, :real_n].cpu().numpy() for values in (self.sums, self.least))
        means = sums / np.maximum(counted_n, 1)
        floats = (means[0], self.first[:real_n].cpu().numpy(), least[0], sums[1], means[2], means[3], least[1])
        return {"generated_n": counted_n, "truncated": ~ended, **dict(zip(FLOATS, floats, strict=True))}
