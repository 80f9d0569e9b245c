"""Decode a batch token by token, for scoring and writing. The caller chooses every next token, and decides which rows end."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from taskdiv_assets.language_model.apart import side, switches_of
from taskdiv_assets.language_model.batching import Batch, filled_rows, position_ids
from taskdiv_assets.language_model.key_values import growing_cache
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.prefixes import KeysAndValues, can_share

if TYPE_CHECKING:
    import torch

    Logits = torch.Tensor  # (rows, …, vocabulary)

GPU_STEPS_A_LOOK = 8  # each check for ended rows waits for the GPU
DROP_AT = 0.75  # rows are dropped if at most this share remains, since dropping rows costs a copy of the cache


def steps_a_look(lm: LanguageModel) -> int:
    """Return the number of tokens between two checks for ended rows."""
    return 1 if lm.device.type == "cpu" else GPU_STEPS_A_LOOK


def kept_rows(is_open: torch.Tensor, open_n: int, step: int) -> torch.Tensor | None:
    """Return the indices of all open rows, and of ended rows that fill up a multiple of `step`.

    Return None, and so keep all rows, if more than the share DROP_AT of the rows would remain.
    """
    rows_n = filled_rows(open_n, len(is_open), step)
    if rows_n > DROP_AT * len(is_open):
        return None
    return (~is_open).int().argsort(stable=True)[:rows_n].sort().values


class NoCacheError(ValueError):
    """The model ignores a key-value cache, as Mamba and RWKV do, so decoding over the cache would ignore earlier tokens."""


class Decoding:
    """The state of a batch during decoding, padded on the left: the next inputs, and the cache of earlier tokens.

    `known` contains the keys and values of a prefix that all rows share. If they cannot be used, the model reads the prefix again
    with the batch. If the longest row passes a switch (see `apart`), the model reads all rows again.
    """

    def __init__(
        self, lm: LanguageModel, batch: Batch, max_new_tokens: int, known: KeysAndValues | None = None
    ) -> None:
        import torch

        self.lm, self.model = lm, lm.model
        self.switches = switches_of(lm.model.config)
        before_n = known.tokens_n if known is not None else 0
        self.tokens_n = before_n + int(batch.attention_mask.sum(1).max()) if self.switches else 0  # of the longest row
        if known is not None and not self._can_use(known, batch):
            batch, known, before_n = _joined(known, batch), None, 0
        accepted = inspect.signature(lm.model.forward).parameters
        self.takes_positions = "position_ids" in accepted or "kwargs" in accepted
        self.extra = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self.mask = torch.nn.functional.pad(batch.attention_mask, (before_n, max_new_tokens), value=1)
        self.positions = position_ids(self.mask)
        self.is_padded = batch.is_padded
        self.inputs, self.width = batch.input_ids, before_n + batch.input_ids.shape[1]
        self.cache = growing_cache(lm.model, max_new_tokens, known)
        self.seen = batch.input_ids  # updated only if the model has a switch
        if known is not None:
            self.seen = torch.cat([known.input_ids.expand(len(self.seen), -1), self.seen], 1)

    def _can_use(self, known: KeysAndValues, batch: Batch) -> bool:
        is_same_side = side(self.switches, known.tokens_n) == side(self.switches, self.tokens_n)
        return bool(known.keys) and is_same_side and (known.allows_gap or not batch.is_padded)

    def next_logits(self) -> Logits:
        """Return the logits after the last token of each row, (rows, vocabulary).

        Raise NoCacheError if the model does not use the cache.
        """
        # A batch without padding gets no mask, because the presence of a mask decides which kernel runs.
        mask = self.mask[:, : self.width] if self.is_padded else None
        extra: dict[str, Any] = {**self.extra}
        if self.takes_positions:
            extra["position_ids"] = self.positions[:, self.width - self.inputs.shape[1] : self.width]
        output = self.model(
            input_ids=self.inputs, attention_mask=mask, past_key_values=self.cache, use_cache=True, **extra
        )
        if getattr(output, "past_key_values", None) is not self.cache:
            raise NoCacheError(f"{type(self.model).__name__} does not keep its past in a cache of keys and values")
        logits: Logits = output.logits[:, -1]
        return logits

    def go_on(self, tokens: torch.Tensor, kept: torch.Tensor | None) -> None:
        """Append to each row its token in `tokens`, and drop the rows that are not in `kept` (None keeps all rows)."""
        if kept is not None:
            tokens, self.mask, self.positions = tokens[kept], self.mask[kept], self.positions[kept]
            self.cache.reorder_cache(kept)  # `batch_select_indices` keeps all rows of layers without attention
            self.seen = self.seen[kept] if self.switches else self.seen
        self.inputs, self.width = tokens[:, None], self.width + 1
        if self.switches:
            self._pass_switch()

    def _pass_switch(self) -> None:
        """Record the new tokens. If the longest row passes a switch with them, the next pass reads all rows again."""
        import torch

        self.seen, self.tokens_n = torch.cat([self.seen, self.inputs], 1), self.tokens_n + 1
        if side(self.switches, self.tokens_n) != side(self.switches, self.tokens_n - 1):
            self.inputs = self.seen
            self.cache = growing_cache(self.model, self.mask.shape[1] - self.width)


class Rereading:
    """One text that is read in full for each new token, because its model cannot decode over a cache (see `alone`)."""

    def __init__(self, lm: LanguageModel, batch: Batch) -> None:
        self.model, self.inputs = lm.model, batch.input_ids

    def next_logits(self) -> Logits:
        logits: Logits = self.model(input_ids=self.inputs, use_cache=False).logits[:, -1]
        return logits

    def go_on(self, tokens: torch.Tensor, kept: torch.Tensor | None) -> None:
        import torch

        self.inputs = torch.cat([self.inputs, tokens[:, None]], dim=1)


def read_beginnings(lm: LanguageModel, batch: Batch) -> KeysAndValues:
    """Return the keys and values of left-padded prefixes. Both tuples are empty if the model cannot share prefixes."""
    from taskdiv_assets.language_model.counted import counted_padding  # which imports this module

    if not can_share(lm):
        return KeysAndValues(batch.input_ids, (), (), False)
    return keys_and_values(lm, batch)._replace(allows_gap=not counted_padding(lm).gap)


def keys_and_values(lm: LanguageModel, batch: Batch) -> KeysAndValues:
    """Return the keys and values of prefixes, for a model that can share prefixes. `allows_gap` is True without a test."""
    decoding = Decoding(lm, batch, 0)
    decoding.next_logits()
    layers = decoding.cache.layers
    keys, values = tuple(layer.keys for layer in layers), tuple(layer.values for layer in layers)
    return KeysAndValues(batch.input_ids, keys, values, True)


def _joined(known: KeysAndValues, batch: Batch) -> Batch:
    import torch

    ids = torch.cat([known.input_ids.expand(len(batch.input_ids), -1), batch.input_ids], 1)
    mask = torch.nn.functional.pad(batch.attention_mask, (known.tokens_n, 0), value=1)
    order = mask.argsort(dim=1, stable=True)  # padding first, all other tokens in their order
    return batch._replace(input_ids=ids.gather(1, order), attention_mask=mask.gather(1, order))
