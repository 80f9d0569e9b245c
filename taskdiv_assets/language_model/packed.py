"""Continue prompts of different lengths in one batch. This is faster for large models on a CPU in float32.

The method of `batching` fills the batch of each padded length up to a fixed number of rows. At 350,000 parameters this costs
almost nothing. At 268 million, scoring 32 prompts by that method took 5.5 times as long as `generate`. By the method of this
module, the linear layers process all tokens of a batch as one row. Only attention is computed for each length separately, by
the same calls as in the other method. So a prompt's results are bit-identical with both methods and in any pool.

`can_pack` chooses the method. It accepts a large model if our tests compare both methods for models of its type. The model must
use torch's attention. The widths of its weights must be multiples of 64, and the size of its vocabulary a multiple of 32 (see
`row_steps`). On this processor, a row must be bit-identical among 4 and among 64 rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.apart import Apart, switches_of
from taskdiv_assets.language_model.batching import Batch, Group, Row, groups, keeps_bits, row_steps, vocabulary_size
from taskdiv_assets.language_model.counted import CLEAN, is_large
from taskdiv_assets.language_model.decoding import Decoding

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.loading import LanguageModel

    Logits = torch.Tensor  # (rows, vocabulary)

# Types whose texts are read without padding, so that results stored earlier stay the same.
EXACT_TYPES = ("gemma3_text",)
# Products of fewer rows are filled up to LEAST_ROWS, because 1 and 2 rows use other kernels.
LEAST_ROWS, MANY_ROWS = 4, 64
PACK_ROWS = 128  # the head of Gemma 3 270M takes 14.5 ms a row among 16 rows, 8.6 among 64, 7.2 among 128
PACK_TOKENS = 8192  # of padded prompts
PACK_LOGITS = 2**25  # of one step; 128 MiB
ATTENTION = "taskdiv_by_length"


def can_pack(lm: LanguageModel) -> bool:
    """Return True if a model's prompts can be continued by this module's method. The result is cached for each loaded model."""
    if lm.model not in _KNOWN:
        _KNOWN[lm.model] = is_suitable(lm) and not _rows_matter(lm)
    return _KNOWN[lm.model]


_KNOWN: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def is_suitable(lm: LanguageModel) -> bool:
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    config = lm.model.config
    if not (keeps_bits(lm) and config.model_type in CLEAN and config._attn_implementation == "sdpa"):
        return False
    if "logits_to_keep" not in signature(lm.model.forward).parameters:  # an adapter's wrapper
        return False
    layers = DynamicCache(config=config).layers
    return (
        is_large(lm)
        and row_steps(lm).least == 1
        and not switches_of(config)
        and not getattr(config, "use_bidirectional_attention", False)
        and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    )


def _rows_matter(lm: LanguageModel) -> bool:
    """Return True if, on this processor, a row's logits are not bit-identical among LEAST_ROWS and among MANY_ROWS rows."""
    import torch

    random = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary_size(lm), (MANY_ROWS, 1), generator=random)

    def logits(rows_n: int) -> torch.Tensor:
        some = ids[:rows_n]
        return Packed(lm, [Batch(np.arange(rows_n), some, torch.ones_like(some), False)], 0).next_logits()

    with torch.inference_mode():
        return not torch.equal(logits(LEAST_ROWS), logits(MANY_ROWS)[:LEAST_ROWS])


def packs(
    lm: LanguageModel,
    rows: Sequence[Row],
    limit: int | None,  # the largest length that a prompt may be padded to
    is_known: npt.NDArray[np.bool_] | None = None,  # (n,) prompts to leave out
) -> list[Group]:
    """Divide prompts of different lengths into batches, long prompts first."""
    chosen = np.arange(len(rows)) if is_known is None else np.flatnonzero(~is_known)
    most_rows = max(LEAST_ROWS, min(PACK_ROWS, PACK_LOGITS // vocabulary_size(lm)))
    found: list[list[Group]] = []
    rows_n = tokens_n = 0
    for one in by_length(lm, rows, chosen, limit):
        left = one
        while len(left.positions):
            if not found or rows_n >= most_rows or (rows_n and tokens_n + one.length > PACK_TOKENS):
                found.append([])
                rows_n = tokens_n = 0
            fitting_n = max(1, min(most_rows - rows_n, (PACK_TOKENS - tokens_n) // one.length))
            now, left = _cut(left, fitting_n)
            found[-1].append(now)
            rows_n, tokens_n = rows_n + len(now.positions), tokens_n + len(now.positions) * one.length
    return [Group(np.concatenate([one.positions for one in pack]), pack[0].length, True) for pack in found]


def _cut(group: Group, rows_n: int) -> tuple[Group, Group]:
    return group._replace(positions=group.positions[:rows_n]), group._replace(positions=group.positions[rows_n:])


def by_length(
    lm: LanguageModel, rows: Sequence[Row], positions: npt.NDArray[np.int64], limit: int | None
) -> list[Group]:
    """Group the prompts at `positions` by padded length, long ones first."""
    apart = Apart(is_exact=lm.model.config.model_type in EXACT_TYPES)
    found = groups([rows[position] for position in positions], limit, lambda length: len(rows), apart)
    return [one._replace(positions=positions[one.positions]) for one in found]


class Packed:
    """The state of a batch during decoding. Its rows may have several padded lengths. Rows of one length form a part."""

    def __init__(self, lm: LanguageModel, batches: Sequence[Batch], max_new_tokens: int) -> None:
        self.model = lm.model
        self.parts = [Decoding(lm, batch, max_new_tokens) for batch in batches]

    def next_logits(self) -> Logits:
        """Return the logits after the last token of each row, (rows, vocabulary), part by part."""
        import torch

        masks = [_masks(self.model, part) for part in self.parts]
        ids = torch.cat([part.inputs.flatten() for part in self.parts])
        places = [part.positions[:, part.width - part.inputs.shape[1] : part.width].flatten() for part in self.parts]
        last = torch.cat([torch.full((len(part.inputs),), part.inputs.shape[1]) for part in self.parts]).cumsum(0) - 1
        with _attention_by_length(self.model):
            output = self.model(
                input_ids=_filled(ids)[None],
                position_ids=_filled(torch.cat(places))[None],
                use_cache=False,
                logits_to_keep=_filled(last),
                parts=list(zip(self.parts, masks, strict=True)),
            )
        logits: Logits = output.logits[0, : len(last)]
        return logits

    def go_on(self, tokens: torch.Tensor, kept: torch.Tensor | None) -> None:
        """Append to each row its token in `tokens`, and drop the rows that are not in `kept` (ascending; None keeps all rows)."""
        start, left = 0, []
        for part in self.parts:
            end = start + len(part.inputs)
            own = None if kept is None else kept[(kept >= start) & (kept < end)] - start
            if own is None or len(own):
                part.go_on(tokens[start:end], None if own is None or len(own) == end - start else own)
                left.append(part)
            start = end
        self.parts = left


def _filled(values: torch.Tensor) -> torch.Tensor:
    """Return the values, with copies of the first value at their end if there are fewer than LEAST_ROWS."""
    import torch

    missing_n = LEAST_ROWS - len(values)
    return torch.cat([values, values[:1].expand(missing_n)]) if missing_n > 0 else values


def _masks(model: Any, part: Decoding) -> tuple[Any, Any]:
    """Return the attention masks of a part for layers without and with a sliding window, as the model makes them.

    A mask is None if the model has no layer of its kind, or if its layers need no mask.
    """
    from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

    rows_n, new_n = part.inputs.shape
    made = {
        "config": model.config,
        "inputs_embeds": part.mask.new_empty((rows_n, new_n, 0), dtype=model.dtype),  # only its shape is read
        "attention_mask": part.mask[:, : part.width] if part.is_padded else None,
        "past_key_values": part.cache,
        "position_ids": part.positions[:, part.width - new_n : part.width],
    }
    kinds = part.cache.is_sliding
    return (
        None if all(kinds) else create_causal_mask(**made),
        create_sliding_window_causal_mask(**made) if any(kinds) else None,
    )


@contextmanager
def _attention_by_length(model: Any) -> Iterator[None]:
    before = model.config._attn_implementation
    _register()
    model.config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        model.config._attn_implementation = before


@cache
def _register() -> None:
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(ATTENTION, lambda *args, **kwargs: _attend(sdpa_attention_forward, *args, **kwargs))


def _attend(
    attend: Any,
    module: torch.nn.Module,
    query: torch.Tensor,  # (1, heads, tokens, width), as keys and values
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    parts: Sequence[tuple[Decoding, tuple[Any, Any]]],
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Return one layer's attention output, (1, tokens, heads, width). Each part attends to its own cache.

    The output is 0 for tokens that belong to no part; these only fill up the row.
    """
    import torch

    results, start = [], 0
    for part, masks in parts:
        rows_n, new_n = part.inputs.shape
        own = slice(start, start + rows_n * new_n)
        start += rows_n * new_n
        asked, keys, values = (
            one[0, :, own].reshape(one.shape[1], rows_n, new_n, -1).transpose(0, 1) for one in (query, key, value)
        )
        keys, values = part.cache.update(keys, values, module.layer_idx)
        mask = masks[part.cache.is_sliding[module.layer_idx]]
        found, _ = attend(module, asked, keys, values, mask, sliding_window=sliding_window, **kwargs)
        results.append(found.flatten(0, 1))
    rest_n = query.shape[2] - start
    if rest_n:
        results.append(results[0].new_zeros((rest_n, *results[0].shape[1:])))
    return torch.cat(results)[None], None
