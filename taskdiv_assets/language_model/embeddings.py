"""Turn prompts into vectors of length 1 by pooling the base model's last hidden state. A pool's vectors are stored in shards."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model import batching
from taskdiv_assets.language_model.counted import apart_of
from taskdiv_assets.language_model.footprint import embedding, fitting_tokens
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens
from taskdiv_assets.language_model.memory import Room

if TYPE_CHECKING:
    import torch

# How the hidden states of a prompt become one vector: "mean" is the mean over all tokens of the last hidden states, BOS included;
# "last" is the last hidden state of the last token; "last_layers" is the mean of the last token's states in the last `LAYERS_N`
# layers, each scaled to length 1.
Pooling: TypeAlias = Literal["mean", "last", "last_layers"]
LAYERS_N = 4
# Largest number of rows in memory at once (64 MiB at d = 4,096); a killed run loses at most as many. Prompts are sorted by length
# within a shard, and the last batch of each length is filled up. On Dolly's 15,011 prompts, shards of this size need 1.5% more
# tokens than a single shard, and shards of 4,096 rows need 4% more.
SHARD_ROWS_N = 8_192


class Shard(NamedTuple):
    """Consecutive rows of the pool that form one file."""

    name: str
    start: int
    rows_n: int


def embed(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    pooling: Pooling = "mean",
    first_row: int = 0,  # row of the first prompt in the pool, for messages
    # Called after every batch with (prompts done, prompts in all, share of the work that is done).
    progress: Callable[[int, int, float], None] | None = None,
) -> npt.NDArray[np.float16]:
    """Return one vector for each of n rendered prompts, (n, d), L2-normalised in float64 before the cast to float16.

    A prompt that is longer than the context loses its beginning, but not its BOS. Raise ValueError if a prompt cannot be
    tokenised, has no tokens or does not fit into memory, or if its pooled hidden state is zero or not finite.
    """
    limit = context_tokens(lm)
    rows = batching.tokenise(lm, prompts, limit, name_of=lambda place: f"in row {first_row + place}").rows
    vectors = np.zeros((len(prompts), dimensions(lm)), np.float16)
    steps, shapes = batching.row_steps(lm), batching.shapes_of(lm)
    rows_of = partial(batching.rows_in_batch, vocabulary_n=1, steps=steps, shapes=shapes)  # no logits are made
    options = {"output_hidden_states": True} if pooling == "last_layers" else {}
    memory = embedding(lm, max(map(len, rows), default=1), has_layers=bool(options))
    room = Room(lm.device, steps.step, tokens_at_most=fitting_tokens(memory, lm.device))

    def embed_group(group: batching.Group) -> tuple[int, int]:
        """Embed a group, and return its number of prompts and the number of tokens that were computed, padding included."""
        room.rows_now_n = room.rows_of(rows_of(group.length), group.length)
        batch = batching.as_batch(lm, rows, group, room.rows_now_n, "right")
        # No attention mask: attention is causal, so no real token sees the padding at the end.
        output = _backbone(lm)(input_ids=batch.input_ids, use_cache=False, **options)
        real_n = len(batch.positions)
        pooled = _pool(output, batch.attention_mask[:real_n], pooling)
        vectors[batch.positions] = _unit(pooled.cpu().numpy(), first_row + batch.positions).astype(np.float16)
        return real_n, room.rows_now_n * group.length

    planned = batching.groups(rows, limit, rows_of, apart_of(lm, "right"))
    all_n = sum(room.rows_of(rows_of(group.length), group.length) * group.length for group in planned)
    done_n = tokens_n = 0
    for real_n, computed_n in room.run(planned, embed_group):
        done_n, tokens_n = done_n + real_n, tokens_n + computed_n
        if progress:
            progress(done_n, len(prompts), min(tokens_n / all_n, 1.0))
    return vectors


def dimensions(lm: LanguageModel) -> int:
    """Return the width d of the last hidden state. In OPT-350m the other hidden states are wider."""
    import torch

    with torch.inference_mode():
        token = torch.zeros((1, 1), dtype=torch.long, device=lm.device)
        return int(_backbone(lm)(input_ids=token, use_cache=False).last_hidden_state.shape[-1])


def _backbone(lm: LanguageModel) -> torch.nn.Module:
    """Return the part of a model that computes the last hidden state. In Llama 4, `base_model` is wrongly the whole model."""
    found: torch.nn.Module = lm.model.base_model
    return lm.model.get_submodule("model") if found is lm.model else found


def _pool(
    output: Any,  # output of the backbone for at least `real` rows
    mask: torch.Tensor,  # (real, length) 1 on tokens, 0 on the padding at the end
    pooling: Pooling,
) -> torch.Tensor:  # (real, d) float64
    """Return one vector for each prompt, not normalised. For a mean, return the sum, which has the same direction as the mean.

    In OPT-350m the other hidden states are wider than the last one. Such states are left out.
    """
    import torch

    hidden: torch.Tensor = output.last_hidden_state[: len(mask)]
    last = (torch.arange(len(mask), device=mask.device), mask.sum(1) - 1)
    if pooling == "last":
        return hidden[last].double()
    if pooling == "last_layers":
        states = [one[: len(mask)][last].double() for one in (output.hidden_states or [hidden])[-LAYERS_N:]]
        same = [one / one.norm(dim=1, keepdim=True) for one in states if one.shape[-1] == hidden.shape[-1]]
        return torch.stack(same or [hidden[last].double()]).sum(0)
    return hidden.float().masked_fill(~mask[:, :, None].bool(), 0).sum(1, dtype=torch.float64)


def _unit(vectors: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
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
    """Return the shards of a pool, in the order of its rows. The number in a shard's name is the shard's first row.

    >>> plan_shards(5, 3)
    [Shard(name='shard-000000000.npy', start=0, rows_n=3), Shard(name='shard-000000003.npy', start=3, rows_n=2)]
    """
    starts = range(0, prompts_n, shard_rows_n)
    return [Shard(f"shard-{start:09d}.npy", start, min(shard_rows_n, prompts_n - start)) for start in starts]


def to_npy(vectors: npt.NDArray[np.float16]) -> bytes:
    """Return vectors as the content of a NumPy file. Equal vectors give equal bytes."""
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    return buffer.getvalue()


def is_npy(data: bytes, rows_n: int, dimensions_n: int) -> bool:
    """Return True if `data` has the header and the length of a file that `to_npy` made of (rows_n, dimensions_n) vectors.

    >>> data = to_npy(np.zeros((2, 3), np.float16))
    >>> is_npy(data, 2, 3), is_npy(data[:-1], 2, 3), is_npy(data, 3, 2)
    (True, False, False)
    """
    header = io.BytesIO()
    shape = {"descr": "<f2", "fortran_order": False, "shape": (rows_n, dimensions_n)}
    np.lib.format.write_array_header_1_0(header, shape)
    expected = header.getvalue()
    return len(data) == len(expected) + 2 * rows_n * dimensions_n and data.startswith(expected)
