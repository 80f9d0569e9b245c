"""Prompts as batches of fixed shape, so that what a model says of a prompt does not depend on its companions.

A prompt is padded to a length that follows from its own length alone, and every batch of one length has the same
number of rows, the last one filled up with dummies. On a CPU with one thread in float32 all that is computed of a
prompt is then the same to the last bit, whatever else is in the pool. With companions of other shapes a mean
log-probability moves by up to 2e-6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.loading import LanguageModel

# These three fix the shapes, so they belong to the identity of what is computed with them.
ROWS_AT_MOST = 128
TOKENS_A_BATCH = 4096
SHORTEST = 4
TOKENISED_AT_ONCE = 4096  # all of 96,628 prompts at once held 6 GB of the tokenizer's own records
FIXED_SHAPES = {"rows_at_most": ROWS_AT_MOST, "tokens_a_batch": TOKENS_A_BATCH, "shortest": SHORTEST}


class Tokens(NamedTuple):
    """Every prompt's tokens, and how many prompts had to be cut to fit the model's context."""

    rows: list[list[int]]
    truncated_prompts_n: int


class Batch(NamedTuple):
    """One batch of fixed shape; the last rows are dummies where `positions` is shorter than the tensors."""

    positions: npt.NDArray[np.int64]  # (real,) which prompts stand in the first rows
    input_ids: torch.Tensor  # (rows, length)
    attention_mask: torch.Tensor  # (rows, length) 0 on the padding


def tokenise(lm: LanguageModel, prompts: Sequence[str], limit: int | None, *, first_row: int = 0) -> Tokens:
    """Tokens of each prompt, at most `limit` of them: the end of a longer prompt is kept, and its BOS where it has one.

    Raises:
        ValueError: a prompt has no token at all, named by its row where the first prompt is row `first_row`.
    """
    rows: list[list[int]] = []
    truncated_n = 0
    for start in range(0, len(prompts), TOKENISED_AT_ONCE):
        some = list(prompts[start : start + TOKENISED_AT_ONCE])
        for place, tokens in enumerate(lm.tokenizer(some, verbose=False)["input_ids"]):
            if not tokens:
                raise ValueError(
                    f"prompt in row {first_row + start + place} ({some[place]!r}) has no token for this model's "
                    "tokenizer; remove it from the pool, or add text to the prompt template"
                )
            if limit is not None and len(tokens) > limit:
                tokens = _end_of(tokens, limit, lm.tokenizer.bos_token_id)
                truncated_n += 1
            rows.append(tokens)
    return Tokens(rows, truncated_n)


def _end_of(tokens: list[int], limit: int, bos: int | None) -> list[int]:
    has_start = tokens[0] == bos and limit > 1
    return tokens[:1] + tokens[1 - limit :] if has_start else tokens[-limit:]


def padded_length(tokens_n: int, limit: int | None = None) -> int:
    """The length that a prompt is padded to: four to eight steps a doubling, at least 4, never above the limit.

    >>> [padded_length(n) for n in (1, 9, 33, 100, 500)]
    [4, 12, 40, 112, 512]
    """
    step = max(SHORTEST, 1 << max((tokens_n - 1).bit_length() - 3, 0))
    length = -(-tokens_n // step) * step
    return length if limit is None else min(length, limit)


def rows_in_batch(length: int) -> int:
    """How many prompts of one padded length make a batch: about TOKENS_A_BATCH tokens, in multiples of 8."""
    rows = min(ROWS_AT_MOST, TOKENS_A_BATCH // length)
    return rows // 8 * 8 if rows >= 8 else max(rows, 1)


def fixed_batches(
    lm: LanguageModel, rows: Sequence[Sequence[int]], limit: int | None, *, padding: Literal["left", "right"] = "left"
) -> Iterator[Batch]:
    """Batches of all prompts, long ones first (memory runs out at once or not at all), in pool order within a length.

    Padding on the left is what a continuation needs. Where none follows, padding on the right lets causal attention do
    without a mask, which halves the time on long prompts.
    """
    import torch

    lengths = np.array([padded_length(len(tokens), limit) for tokens in rows], np.int64)
    for length in sorted({int(value) for value in lengths}, reverse=True):
        members = np.flatnonzero(lengths == length)
        rows_n = rows_in_batch(length)
        for start in range(0, len(members), rows_n):
            positions = members[start : start + rows_n]
            filled = [*positions, *[positions[0]] * (rows_n - len(positions))]
            ids, mask = np.zeros((2, rows_n, length), np.int64)
            for row, position in enumerate(filled):
                tokens = rows[position]
                place = slice(length - len(tokens), None) if padding == "left" else slice(len(tokens))
                ids[row, place], mask[row, place] = tokens, 1
            yield Batch(positions, torch.from_numpy(ids).to(lm.device), torch.from_numpy(mask).to(lm.device))


def position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    """Positions that start at 0 with each row's first real token."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)
