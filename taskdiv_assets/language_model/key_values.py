"""A key-value cache that grows in place.

The cache of transformers copies all keys and values at every step. Ours has free places for more tokens. This saves 8% of the
time and half of the memory traffic (for a model of 260,032 parameters and 64 new tokens). Layers with sliding windows use
transformers' own classes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from taskdiv_assets.language_model.prefixes import KeysAndValues

ROOM_TOKENS = 64  # largest number of free places that a new or full layer gets


def growing_cache(model: PreTrainedModel, new_tokens_n: int, known: KeysAndValues | None = None) -> Any:
    """Return a cache with free places for `new_tokens_n` new tokens, at most ROOM_TOKENS at a time.

    `known` contains the keys and values of a prefix that all rows share. It is allowed only for a model for which
    `prefixes.can_share` is True.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    made = DynamicCache(config=model.config)
    room_n = min(new_tokens_n, ROOM_TOKENS)
    made.layers = [_growing_layer()(room_n) if type(layer) is DynamicLayer else layer for layer in made.layers]
    if known is not None:
        for layer, keys, values in zip(made.layers, known.keys, known.values, strict=True):
            layer.start(keys, values)
    return made


@cache
def _growing_layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # mypy does not follow transformers: its class is Any
        """Keys and values of one layer, (rows, heads, tokens, width). They are views of arrays with free places."""

        def __init__(self, room_n: int) -> None:
            super().__init__()
            self.room_n = room_n
            self.arrays: list[torch.Tensor] = []

        def start(self, keys: torch.Tensor, values: torch.Tensor) -> None:
            """Set the keys and values of the common prefix, which have one row."""
            self.lazy_initialization(keys, values)
            self.keys, self.values = keys, values

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            before_n = self.get_seq_length()
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            tokens_n = before_n + key_states.shape[-2]
            if not self.arrays or tokens_n > self.arrays[0].shape[-2]:
                kept = (self.keys, self.values)
                pairs = zip((key_states, value_states), kept, strict=True)
                self.arrays = [_longer(new, old, before_n, self.room_n) for new, old in pairs]
            for array, new in zip(self.arrays, (key_states, value_states), strict=True):
                array[:, :, before_n:tokens_n] = new
            self._look(tokens_n)
            return self.keys, self.values

        def reorder_cache(self, beam_idx: torch.Tensor) -> None:
            tokens_n = self.get_seq_length()
            if tokens_n:
                self.arrays = [array[beam_idx] for array in self.arrays]
                self._look(tokens_n)

        def _look(self, tokens_n: int) -> None:
            self.keys, self.values = (array[:, :, :tokens_n] for array in self.arrays)

    return GrowingLayer


def _longer(new: torch.Tensor, old: torch.Tensor, old_n: int, room_n: int) -> torch.Tensor:
    rows_n, heads_n, new_n, width = new.shape
    array = new.new_empty((rows_n, heads_n, old_n + new_n + room_n, width))
    if old_n:
        array[:, :, :old_n] = old
    return array
