"""Ways to score a pool completely: from prompts to each column of the confidence table that the way can compute.

The ways with transformers are as fast as we can write them: our fastest function computes the statistics, a row counts nothing
after its end, and the rows of a batch are padded to its longest prompt. Variants of our scorer are also measured: without the
shapes that make a prompt's numbers independent of its batch, and with more of these shapes than this processor needs.

A way takes a model, prompts and the largest number of new tokens. It returns columns (n,) in the order of the prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.language_model import batching, confidence
from taskdiv_assets.language_model.batching import Batch, Group, as_batch, tokenise
from taskdiv_assets.language_model.loading import LanguageModel, end_tokens
from taskdiv_assets.language_model.quiet import quiet
from taskdiv_assets.language_model.token_statistics import FLOATS, SMALLEST, Totals, statistics

Columns = dict[str, NDArray[Any]]
Way = Callable[[LanguageModel, Sequence[str], int], Columns]
BATCH_ROWS = 64
PAGE_TOKENS = 32  # of continuous batching's cache


def ours(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> Columns:
    return confidence.score(lm, prompts, max_new_tokens=new_n).columns


def ours_fixed_rows(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> Columns:
    """Score as on a processor whose result for a row depends on the number of rows: no row leaves a batch."""
    with mock.patch.object(confidence, "rows_matter", lambda lm: True):
        return ours(lm, prompts, new_n)


def ours_free_shapes(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> Columns:
    """Score with batches as wide as their longest prompt, of any number of rows. Results need not be bit-identical."""
    with mock.patch.object(confidence, "keeps_bits", lambda lm: False):
        return ours(lm, prompts, new_n)


def ours_of_prompt(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> Columns:
    """Score the prompts' own tokens with our scorer."""
    return confidence.score(lm, prompts, max_new_tokens=new_n, of="prompt").columns


def generate(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> Columns:
    """Use `generate(output_logits=True)` on the prompts in the given order."""
    return _in_batches(lm, prompts, new_n, False, _kept_logits)


def generate_sorted(lm: LanguageModel, prompts: Sequence[str], new_n: int, *, rows_n: int = BATCH_ROWS) -> Columns:
    """Score as `generate` here does, but sort the prompts by length."""
    return _in_batches(lm, prompts, new_n, True, _kept_logits, rows_n)


def generate_recording(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> Columns:
    """Use `generate` on sorted prompts, with a logits processor that computes statistics. No logits are kept."""
    return _in_batches(lm, prompts, new_n, True, _recorded)


def forward(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> Columns:
    """Score the prompts' own tokens in one masked pass, in the given order."""
    return _in_batches(lm, prompts, new_n, False, _own_tokens)


def forward_sorted(lm: LanguageModel, prompts: Sequence[str], new_n: int) -> Columns:
    """Score as `forward` does, but sort the prompts by length."""
    return _in_batches(lm, prompts, new_n, True, _own_tokens)


def continuous(
    lm: LanguageModel, prompts: Sequence[str], new_n: int, *, rows_n: int | None, tokens_n: int | None
) -> Columns:
    """Use transformers' continuous batching. It returns only log-probabilities of chosen tokens, so no entropies and no margins.

    Args:
        lm: a causal language model.
        prompts: n rendered prompts.
        new_n: largest number of tokens of a continuation.
        rows_n: prompts that are decoded at once; the cache has this size. None: as many as fit into most of the free memory.
        tokens_n: tokens of one forward pass.
    """
    from transformers import ContinuousBatchingConfig, GenerationConfig

    rows, _ = tokenise(lm, prompts, None)
    pages_n = -(-(max(map(len, rows)) + new_n) // PAGE_TOKENS)
    settings = ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=rows_n * pages_n if rows_n else None,
        max_batch_tokens=tokens_n,
        max_requests_per_batch=rows_n,
        return_logprobs=True,
        allow_block_sharing=False,
    )
    ends = list(end_tokens(lm))
    greedy = GenerationConfig(max_new_tokens=new_n, do_sample=False, eos_token_id=ends or -1)
    with quiet():
        outputs = lm.model.generate_batch(rows, generation_config=greedy, continuous_batching_config=settings).values()
    if len(outputs) < len(rows) or any(output.error for output in outputs):
        raise RuntimeError(f"continuous batching finished {len(outputs)} of {len(rows)} prompts, or with an error")
    last = [output.generated_tokens[-1] for output in outputs]
    return _from_log_probabilities([output.logprobs for output in outputs], last, ends)


def _from_log_probabilities(logs: Sequence[Sequence[float]], last: Sequence[int], ends: Sequence[int]) -> Columns:
    """Return the columns that follow from the chosen tokens' log-probabilities."""
    columns = confidence.empty_columns(len(logs))
    for row, values in enumerate(logs):
        probabilities = np.maximum(np.exp(np.array(values)), SMALLEST)
        columns["generated_n"][row] = len(values)
        columns["mean_probability"][row] = probabilities.mean()
        columns["first_probability"][row], columns["min_probability"][row] = probabilities[0], probabilities.min()
        columns["sequence_log_probability"][row] = np.sum(values)
    columns["truncated"] = ~np.isin(last, ends)
    return {name: values for name, values in columns.items() if not np.isnan(values.astype(float)).all()}


def _in_batches(
    lm: LanguageModel,
    prompts: Sequence[str],
    new_n: int,
    is_sorted: bool,
    of_batch: Callable[[LanguageModel, Batch, int], Totals],
    rows_n: int = BATCH_ROWS,
) -> Columns:
    """Score batches of `rows_n` rows, padded to their longest prompt, by `of_batch`."""
    import torch

    rows, _ = tokenise(lm, prompts, None)
    order = np.arange(len(rows))
    if is_sorted:
        order = np.argsort([-len(tokens) for tokens in rows], kind="stable")
    columns = confidence.empty_columns(len(rows))
    for start in range(0, len(order), rows_n):
        some = order[start : start + rows_n]
        batch = as_batch(lm, rows, Group(some, max(len(rows[i]) for i in some), True), len(some))
        with torch.inference_mode():
            found = of_batch(lm, batch, new_n).columns(len(some))
        for name, values in found.items():
            columns[name][some] = values
    return columns


def _kept_logits(lm: LanguageModel, batch: Batch, new_n: int) -> Totals:
    out = _generate(lm, batch, new_n, output_logits=True)
    taken = Recorder(lm, len(batch.input_ids))
    for logits in out.logits:
        taken.add(logits)
    return taken.totals


def _recorded(lm: LanguageModel, batch: Batch, new_n: int) -> Totals:
    from transformers import LogitsProcessorList

    taken = Recorder(lm, len(batch.input_ids))
    _generate(lm, batch, new_n, logits_processor=LogitsProcessorList([taken]))
    return taken.totals


def _generate(lm: LanguageModel, batch: Batch, new_n: int, **options: Any) -> Any:
    return lm.model.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        max_new_tokens=new_n,
        do_sample=False,
        return_dict_in_generate=True,
        eos_token_id=list(end_tokens(lm)) or None,
        pad_token_id=0,  # what stands behind an end is not counted
        **options,
    )


class Recorder:
    """Recorder of statistics of each step's logits for the open rows. It can be used as a logits processor."""

    def __init__(self, lm: LanguageModel, rows_n: int) -> None:
        import torch

        self.totals = Totals(rows_n, lm.device)
        self.rows = torch.arange(rows_n, device=lm.device)
        self.is_open = torch.ones(rows_n, dtype=torch.bool, device=lm.device)
        self.ends = torch.tensor(end_tokens(lm), device=lm.device)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Record a step as a logits processor, and return the scores unchanged."""
        self.add(scores)
        return scores

    def add(self, logits: Any) -> None:
        """Count the likeliest tokens of a step, and close the rows in which this token is an end token."""
        import torch

        step = statistics(logits)
        self.totals.add(self.rows, step.numbers, self.is_open)
        has_ended = torch.isin(step.token, self.ends) & self.is_open
        self.totals.has_ended |= has_ended
        self.is_open &= ~has_ended


def _own_tokens(lm: LanguageModel, batch: Batch, new_n: int) -> Totals:
    ids, is_real = batch.input_ids, batch.attention_mask.bool()
    positions = batching.position_ids(batch.attention_mask)
    logits = lm.model(
        input_ids=ids, attention_mask=batch.attention_mask, position_ids=positions, use_cache=False
    ).logits
    numbers = statistics(logits[:, :-1], ids[:, 1:]).numbers  # (4, rows, length - 1)
    is_counted = is_real[:, 1:] & is_real[:, :-1]  # the first real token has nothing before it
    totals = Totals(len(ids), lm.device)
    totals.counted_n = is_counted.sum(1).int()
    totals.sums = numbers.where(is_counted, 0.0).sum(2)
    totals.least = numbers[[0, 3]].where(is_counted, float("inf")).amin(2)
    first = is_counted.int().argmax(1, keepdim=True)
    totals.first = numbers[0].gather(1, first)[:, 0]
    totals.has_ended[:] = True
    return totals


def furthest(left: Columns, right: Columns) -> NDArray[np.float64]:
    """Return for each prompt the largest difference between the columns that both ways have, (n,). Sums are divided by tokens."""
    both = [name for name in FLOATS if name in left and name in right]
    sizes = {"sequence_log_probability": np.maximum(left["generated_n"], 1)}
    return np.max([np.abs(left[name] - right[name]) / sizes.get(name, 1) for name in both], axis=0)
