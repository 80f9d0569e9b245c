"""A prompt as a vector: the base model's last hidden state, pooled over the prompt's tokens, of length 1.

In: prompts, already rendered. Out: one float16 row a prompt, and the form that a pool's rows are stored in: shards of
8,192 rows, each a NumPy file. Putting them into the store, and finding them there, belongs to the asset.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.batching import as_batch, groups, row_steps, rows_in_batch, shapes_of, tokenise
from taskdiv_assets.language_model.counted import apart_of
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens

if TYPE_CHECKING:
    import torch

# What a kill loses at most, and what stands in memory at once (64 MiB at d = 4,096). Prompts are sorted by length within
# a shard, so each shard ends a length with a batch that is filled up: on Dolly's 15,011 prompts that makes 1.5% more
# tokens than one shard of all, and 4% at 4,096 rows.
SHARD_ROWS_N = 8_192


class Shard(NamedTuple):
    """A run of the pool's rows that is one file."""

    name: str
    start: int
    rows_n: int


def embed(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    pooling: Literal["mean", "last"] = "mean",
    first_row: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float16]:
    """Embed every prompt.

    Args:
        lm: a causal language model; its last hidden state is the one that the output layer reads.
        prompts: n rendered prompts; the beginning of one that is longer than the context is cut.
        pooling: the mean over all of a prompt's tokens (BOS included, where the tokenizer adds it), or the last token's
            state.
        first_row: row of the pool that the first prompt stands in, for messages.
        progress: called with (prompts done, prompts in all) after every batch.

    Returns:
        (n, d), L2-normalised in float64 before the cast to float16. On a CPU in float32 with one thread, a prompt's row is
        the same to the last bit whatever is embedded with it (`batching`).

    Raises:
        ValueError: a prompt without tokens, or a hidden state that is zero or not finite.
    """
    import torch

    limit = context_tokens(lm)
    rows = tokenise(lm, prompts, limit, name_of=lambda place: f"in row {first_row + place}").rows
    vectors = np.zeros((len(prompts), dimensions(lm)), np.float16)
    rows_of = partial(rows_in_batch, vocabulary_n=1, steps=row_steps(lm), shapes=shapes_of(lm))  # no logits are made
    done_n = 0
    with torch.inference_mode():
        for group in groups(rows, limit, rows_of, apart_of(lm, "right")):
            batch = as_batch(lm, rows, group, rows_of(group.length), "right")
            # No attention mask: attention is causal, so padding at the end is never looked at by a real token.
            output = _backbone(lm)(input_ids=batch.input_ids, use_cache=False)
            real_n = len(batch.positions)
            pooled = _pool(output.last_hidden_state[:real_n], batch.attention_mask[:real_n], pooling)
            vectors[batch.positions] = _unit(pooled.cpu().numpy(), first_row + batch.positions).astype(np.float16)
            done_n += real_n
            if progress:
                progress(done_n, len(prompts))
    return vectors


def dimensions(lm: LanguageModel) -> int:
    """Return the length d of an embedding: the width of the last state, narrower than others in OPT-350m."""
    import torch

    with torch.inference_mode():
        token = torch.zeros((1, 1), dtype=torch.long, device=lm.device)
        return int(_backbone(lm)(input_ids=token, use_cache=False).last_hidden_state.shape[-1])


def _backbone(lm: LanguageModel) -> torch.nn.Module:
    """Return the part of a model that ends with its last hidden state; Llama 4 names it otherwise than it says."""
    found: torch.nn.Module = lm.model.base_model
    return lm.model.get_submodule("model") if found is lm.model else found


def _pool(
    hidden: torch.Tensor,  # (real, length, d)
    mask: torch.Tensor,  # (real, length) 1 on tokens, 0 on the padding at the end
    pooling: Literal["mean", "last"],
) -> torch.Tensor:  # (real, d) float64
    """One vector a prompt, of any length: the sum over its tokens points where their mean does."""
    import torch

    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1].double()
    return hidden.float().masked_fill(~mask[:, :, None].bool(), 0).sum(1, dtype=torch.float64)


def _unit(vectors: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The vectors at length 1; `rows` are their rows in the pool."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    is_bad = ~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0))
    if is_bad.any():
        raise ValueError(
            f"the model's hidden state for the prompt in row {rows[is_bad][0]} is zero or not finite: the weights "
            "are damaged, or the dtype overflows; try `base_model: {dtype: float32}`"
        )
    unit: npt.NDArray[np.float64] = vectors / norms
    return unit


# --- as files ----------------------------------------------------------------------------------------------------


def plan_shards(prompts_n: int, shard_rows_n: int = SHARD_ROWS_N) -> list[Shard]:
    """The files of a pool: their rows, one after another, are the pool's.

    A file is named after its first row, so that one of an unfinished folder, cut otherwise by another release, holds the
    rows of its name or has another length: a number of its own could be taken for a shard of other rows.

    >>> plan_shards(5, 3)
    [Shard(name='shard-000000000.npy', start=0, rows_n=3), Shard(name='shard-000000003.npy', start=3, rows_n=2)]
    """
    starts = range(0, prompts_n, shard_rows_n)
    return [Shard(f"shard-{start:09d}.npy", start, min(shard_rows_n, prompts_n - start)) for start in starts]


def to_npy(vectors: npt.NDArray[np.float16]) -> bytes:
    """Vectors as the content of a NumPy file; equal vectors give equal bytes."""
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()


def is_npy(data: bytes, rows_n: int, dimensions_n: int) -> bool:
    """True if `data` is the whole content of a file that `to_npy` made of (rows_n, dimensions_n) vectors.

    Shape and dtype say what the header is, so it is compared and not parsed: whatever else lies there is just no shard.

    >>> data = to_npy(np.zeros((2, 3), np.float16))
    >>> is_npy(data, 2, 3), is_npy(data[:-1], 2, 3), is_npy(data, 3, 2)
    (True, False, False)
    """
    header = io.BytesIO()
    shape = {"descr": "<f2", "fortran_order": False, "shape": (rows_n, dimensions_n)}
    np.lib.format.write_array_header_1_0(header, shape)
    expected = header.getvalue()
    return len(data) == len(expected) + 2 * rows_n * dimensions_n and data.startswith(expected)
