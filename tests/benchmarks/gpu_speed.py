"""The speed limits of a card and the speed of our decoding on it: copies, products, generation and prefill by batch size.

The bounds count only necessary operations. A decoding step must read, at the rate of a copy, each weight that is multiplied
(not the table of input embeddings), and the keys and values of all earlier tokens. Prefill multiplies every matrix with every
token, but the head with the last token only. The attention itself is not counted. Both rates are measured on the same card in
the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from taskdiv_assets.language_model.batching import Batch, vocabulary_size
from taskdiv_assets.language_model.confidence import continued
from taskdiv_assets.language_model.faults import ran_out
from taskdiv_assets.language_model.loading import LanguageModel

BISECTIONS_N = 2  # sizes tried between the largest batch that fits and the smallest that does not


class Rates(NamedTuple):
    """The highest measured rates of the card."""

    copied: float  # bytes a second, read and written
    multiplied: float  # operations a second, in the model's number format


class Speed(NamedTuple):
    """Tokens a second at one batch size, and their share of the bound; None if memory ran out."""

    rows: int
    generated: float | None = None
    generated_share: float | None = None
    prefill: float | None = None
    prefill_share: float | None = None


def seconds(lm: LanguageModel, call: Callable[[], object], repeats_n: int = 1) -> float:
    """Return the time of the fastest call. Each call is complete before its time is taken."""
    best = np.inf
    for _ in range(repeats_n):
        _wait(lm)
        started = time.perf_counter()
        call()
        _wait(lm)
        best = min(best, time.perf_counter() - started)
    return best


def _wait(lm: LanguageModel) -> None:
    if lm.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def free_memory(lm: LanguageModel) -> None:
    """Free the memory that torch keeps for later use."""
    if lm.device.type == "cuda":
        import torch

        torch.cuda.empty_cache()


def measure_rates(lm: LanguageModel, copy_mib: int, square_n: int) -> Rates:
    """Measure a copy of `copy_mib` MiB and a product of two square matrices."""
    import torch

    source = torch.ones(copy_mib * 2**20, dtype=torch.uint8, device=lm.device)
    target = torch.empty_like(source)
    copy_s = seconds(lm, lambda: target.copy_(source), 10)
    left, right = torch.randn((2, square_n, square_n), device=lm.device).to(getattr(torch, lm.dtype))
    product_s = seconds(lm, lambda: left @ right, 10)
    return Rates(2 * source.numel() / copy_s, 2 * square_n**3 / product_s)


def by_batch(lm: LanguageModel, rates: Rates, sizes: Sequence[int], prompt_n: int, steps_n: int) -> Iterator[Speed]:
    """Yield speeds at growing batch sizes until memory runs out, then at some sizes in between.

    Args:
        lm: the model.
        rates: rates of the card.
        sizes: rows of a batch, growing.
        prompt_n: tokens of each prompt.
        steps_n: tokens that each row generates.
    """
    fits_n, fails_n = 0, None
    for rows_n in sizes:
        speed = _measured_or_none(lm, rates, rows_n, prompt_n, steps_n)
        yield speed or Speed(rows_n)
        if speed is None:
            fails_n = rows_n
            break
        fits_n = rows_n
    for _ in range(BISECTIONS_N):
        if fails_n is None or fails_n - fits_n < 2:
            break
        rows_n = (fits_n + fails_n) // 2
        speed = _measured_or_none(lm, rates, rows_n, prompt_n, steps_n)
        yield speed or Speed(rows_n)
        fits_n, fails_n = (fits_n, rows_n) if speed is None else (rows_n, fails_n)


def _measured_or_none(lm: LanguageModel, rates: Rates, rows_n: int, prompt_n: int, steps_n: int) -> Speed | None:
    """Return `measured`; None if memory ran out."""
    found = None
    try:
        found = measured(lm, rates, rows_n, prompt_n, steps_n)
    except RuntimeError as error:
        if not ran_out(error):
            raise
    free_memory(lm)  # after the error is gone, and with it what its frames held
    return found


def measured(lm: LanguageModel, rates: Rates, rows_n: int, prompt_n: int, steps_n: int) -> Speed:
    """Measure our decoding of one batch: the first token is prefill, the others are generated."""
    import torch

    batch = _batch(lm, rows_n, prompt_n)

    def decode(new_n: int) -> float:
        return seconds(lm, lambda: continued(lm, batch, new_n, drop_step=None))

    with torch.inference_mode():
        decode(min(2, steps_n))
        prefill_s = min(decode(1), decode(1))
        generate_s = max(decode(steps_n) - prefill_s, 1e-9)
    step_s = generate_s / (steps_n - 1)
    bound_s = step_bytes(lm, rows_n, prompt_n + steps_n / 2) / rates.copied
    prefill_bound_s = prefill_operations(lm, rows_n, prompt_n) / rates.multiplied
    return Speed(rows_n, rows_n / step_s, bound_s / step_s, rows_n * prompt_n / prefill_s, prefill_bound_s / prefill_s)


def _batch(lm: LanguageModel, rows_n: int, prompt_n: int) -> Batch:
    """Return random prompts with one padding token each, because batches of long prompts always have some padding."""
    import torch

    random = torch.Generator().manual_seed(0)
    ids = torch.randint(1, vocabulary_size(lm), (rows_n, prompt_n), generator=random)
    mask = torch.ones_like(ids)
    ids[:, 0] = mask[:, 0] = 0
    return Batch(np.arange(rows_n), ids.to(lm.device), mask.to(lm.device), True)


def step_bytes(lm: LanguageModel, rows_n: int, tokens_n: float) -> float:
    """Return the bytes that one decoding step reads: the weights, and the keys and values of `tokens_n` tokens of each row."""
    weights = sum(weight.numel() for weight in lm.model.parameters()) - _embedding(lm).numel()
    config: Any = lm.model.config
    numbers_a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return (weights + rows_n * tokens_n * numbers_a_token) * _embedding(lm).element_size()


def prefill_operations(lm: LanguageModel, rows_n: int, prompt_n: int) -> float:
    """Return the number of multiplications and additions of all matrices with a batch of prompts."""
    head = lm.model.get_output_embeddings().weight.numel()
    weights = sum(weight.numel() for weight in lm.model.parameters() if weight.dim() > 1)
    inner = weights - _embedding(lm).numel() - head
    return 2.0 * rows_n * (inner * prompt_n + head)


def _embedding(lm: LanguageModel) -> Any:
    return lm.model.get_input_embeddings().weight
