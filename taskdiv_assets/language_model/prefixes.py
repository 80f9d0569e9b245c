"""Texts that begin alike: their common beginning is read once.

All questions of a benchmark's task share their worked examples, and all answers to a question share the question. Keys and
values of such a beginning are computed once and precede those of every text that continues it. In exact arithmetic nothing
changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.loading import LanguageModel

Tokens = tuple[int, ...]
LEAST_SHARED = 32  # tokens: below, a separate pass for the beginning costs more than it saves
LARGE = 8  # a beginning with this many texts has its own batches


class Family(NamedTuple):
    """Texts with one beginning."""

    members: tuple[int, ...]  # which texts
    prefix_n: int  # tokens that they share; 0 for those that share nothing


class KeysAndValues(NamedTuple):
    """Beginnings of texts, with the keys and values of a model."""

    input_ids: torch.Tensor  # (rows, tokens)
    keys: tuple[torch.Tensor, ...]  # layer by layer, (rows, heads, tokens, width)
    values: tuple[torch.Tensor, ...]  # as the keys
    allows_gap: bool  # padding may come between a beginning and its continuation

    @property
    def tokens_n(self) -> int:
        """Tokens of each row."""
        return int(self.input_ids.shape[1])

    def of_rows(self, rows: torch.Tensor) -> KeysAndValues:
        """Return these rows, repeated as often as named."""
        keys, values = (tuple(one[rows] for one in kept) for kept in (self.keys, self.values))
        return self._replace(input_ids=self.input_ids[rows], keys=keys, values=values)


class _Open(NamedTuple):
    """Neighbours in sorted order that share their first tokens; more neighbours may follow."""

    prefix_n: int
    start: int  # place of the first of them in sorted order
    parts: list[Family]  # families among them that share more


def families(
    texts: Sequence[Tokens],
    shareable_n: Sequence[int],  # how many of each text's first tokens may be shared
    least_n: int = 2,  # members of a family
) -> list[Family]:
    """Return which texts share their beginning, and how much of it; texts without a partner form one family of 0.

    Beginnings are nested: an instruction, worked examples after it, a context after these. At each level all texts that share it
    form one family, except families among them whose longer beginnings save more; unless those alone leave fewer tokens to read.

    >>> story, other = tuple(range(40)), tuple(range(100, 140))
    >>> families([story + (1,), other + (1,), story + (2,)], [40, 40, 40])
    [Family(members=(0, 2), prefix_n=40), Family(members=(1,), prefix_n=0)]
    """
    heads = [text[:some_n] for text, some_n in zip(texts, shareable_n, strict=True)]
    order = sorted(range(len(texts)), key=lambda place: heads[place])
    arrays = [np.array(heads[place], np.int64) for place in order]
    common = [_common(first, second) for first, second in pairwise(arrays)]
    levels: list[_Open] = []  # each shares more than the one before, and is a part of it
    found: list[Family] = []
    for place, next_n in enumerate([*common, -1]):  # what the text of this place shares with the next
        start, found = place, []
        while levels and levels[-1].prefix_n > next_n:
            level = levels.pop()
            start, found = level.start, [*level.parts, *found]
            if level.prefix_n >= LEAST_SHARED:
                found = _with_others(order[start : place + 1], level.prefix_n, found, least_n)
        if levels and levels[-1].prefix_n == next_n:
            levels[-1].parts.extend(found)
        else:
            levels.append(_Open(next_n, start, found))
    alone = set(range(len(texts))).difference(*(family.members for family in found))
    return [*found, Family(tuple(sorted(alone)), 0)] if alone else found


def _with_others(members: Sequence[int], prefix_n: int, parts: list[Family], least_n: int) -> list[Family]:
    """Return the families of texts that share a beginning: those whose own longer one saves more, and one of all others."""
    kept = [part for part in parts if _saved_n([part]) >= len(part.members) * prefix_n]
    gone = {member for part in kept for member in part.members}
    others = Family(tuple(member for member in members if member not in gone), prefix_n)
    is_worth = len(others.members) >= least_n and _saved_n([*kept, others]) >= _saved_n(parts)
    return [*kept, others] if is_worth else parts


def _saved_n(some: Sequence[Family]) -> int:
    return sum((len(family.members) - 1) * family.prefix_n for family in some)


def _common(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> int:
    size = min(len(first), len(second))
    differing = np.flatnonzero(first[:size] != second[:size])
    return int(differing[0]) if len(differing) else size


def keeps_cache(lm: LanguageModel) -> bool:
    """Return True if a model takes and returns a cache of keys and values; GPT-1, RWKV and Mamba do not."""
    return "past_key_values" in inspect.signature(lm.model.forward).parameters and not getattr(
        lm.model, "_is_stateful", False
    )


def can_share(lm: LanguageModel) -> bool:
    """Return True if a model keeps all keys and values of all layers: no sliding windows, no overwritten states."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if not keeps_cache(lm):
        return False
    layers = DynamicCache(config=lm.model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def standing_cache(lm: LanguageModel, known: KeysAndValues) -> Any:
    """Return a read-only cache of beginnings (one row for all, or one for each), for one pass whose keys are not needed again."""
    from transformers.cache_utils import DynamicCache

    made = DynamicCache(config=lm.model.config)
    made.layers = [_standing_layer()(*pair) for pair in zip(known.keys, known.values, strict=True)]
    return made


@cache
def _standing_layer() -> Any:
    import torch
    from transformers.cache_utils import DynamicLayer

    class StandingLayer(DynamicLayer):  # type: ignore[misc]  # mypy does not follow transformers: its class is Any
        """One layer's beginning; continuations are joined on the fly, so memory is that of one layer at a time."""

        def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
            super().__init__()
            self.lazy_initialization(keys, values)
            self.keys, self.values = keys, values

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Beginning and new tokens, joined."""
            return _joined(self.keys, key_states), _joined(self.values, value_states)

    def _joined(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return torch.cat([before.expand(len(after), -1, -1, -1), after], dim=-2)

    return StandingLayer
