"""Texts that begin alike: what they share is read once.

The worked examples before each question of a benchmark are the same for all questions of a task, and the question is the
same for each of its answers. Keys and values of such a beginning are computed once and stand before those of every text
that goes on from it. In exact arithmetic nothing changes.
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
LEAST_SHARED = 32  # tokens: below, a pass of its own for the beginning costs more than it saves
LARGE = 8  # texts of one beginning that make batches of their own


class Family(NamedTuple):
    """Texts with one beginning."""

    members: tuple[int, ...]  # which texts
    prefix_n: int  # tokens that they share; 0 for those that share nothing


class KeysAndValues(NamedTuple):
    """Beginnings of texts, and what a model keeps of them.

    Attributes:
        input_ids: (rows, tokens).
        keys: layer by layer, (rows, heads, tokens, width).
        values: as the keys.
        allows_gap: padding may follow, before a text goes on.
    """

    input_ids: torch.Tensor
    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    allows_gap: bool

    @property
    def tokens_n(self) -> int:
        """Tokens of each row."""
        return int(self.input_ids.shape[1])

    def of_rows(self, rows: torch.Tensor) -> KeysAndValues:
        """These rows, each as often as it is named."""
        keys, values = (tuple(one[rows] for one in kept) for kept in (self.keys, self.values))
        return self._replace(input_ids=self.input_ids[rows], keys=keys, values=values)


class _Open(NamedTuple):
    """Neighbours in sorted order that share their first tokens, to which more neighbours may come."""

    prefix_n: int
    start: int  # place of the first of them in sorted order
    parts: list[Family]  # families among them that share more


def families(texts: Sequence[Tokens], shareable_n: Sequence[int], least_n: int = 2) -> list[Family]:
    """Which texts shall share their beginning, and how much of it; texts without a partner stand in one family of 0.

    Beginnings are nested: an instruction, worked examples after it, a context after these. At each level all that share it make
    one family, but for families within whose longer beginnings save more; unless those alone leave fewer tokens to read.

    Args:
        texts: n token sequences.
        shareable_n: how many of each text's first tokens may be shared.
        least_n: members that a family needs.

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
    """The families of some texts that share a beginning: those within whose own saves more, and one of all others."""
    kept = [part for part in parts if _saved_n([part]) >= len(part.members) * prefix_n]
    gone = {member for part in kept for member in part.members}
    others = Family(tuple(member for member in members if member not in gone), prefix_n)
    is_worth = len(others.members) >= least_n and _saved_n([*kept, others]) >= _saved_n(parts)
    return [*kept, others] if is_worth else parts


def _saved_n(some: Sequence[Family]) -> int:
    """Tokens that are not read again."""
    return sum((len(family.members) - 1) * family.prefix_n for family in some)


def _common(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> int:
    """How many tokens two texts have in common at their beginning."""
    size = min(len(first), len(second))
    differing = np.flatnonzero(first[:size] != second[:size])
    return int(differing[0]) if len(differing) else size


def keeps_cache(lm: LanguageModel) -> bool:
    """True where a model takes and gives a cache of keys and values; GPT-1, RWKV and Mamba do not."""
    return "past_key_values" in inspect.signature(lm.model.forward).parameters and not getattr(
        lm.model, "_is_stateful", False
    )


def can_share(lm: LanguageModel) -> bool:
    """True where a model keeps all keys and values of all layers: no sliding windows, no states that are overwritten."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if not keeps_cache(lm):
        return False
    layers = DynamicCache(config=lm.model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def standing_cache(lm: LanguageModel, known: KeysAndValues) -> Any:
    """A cache that holds beginnings and takes nothing up: for one pass over what follows, whose keys no one needs again.

    Args:
        lm: the model.
        known: one row for all, or one for each.
    """
    from transformers.cache_utils import DynamicCache

    made = DynamicCache(config=lm.model.config)
    made.layers = [_standing_layer()(*pair) for pair in zip(known.keys, known.values, strict=True)]
    return made


@cache
def _standing_layer() -> Any:
    import torch
    from transformers.cache_utils import DynamicLayer

    class StandingLayer(DynamicLayer):  # type: ignore[misc]  # mypy does not follow transformers: its class is Any
        """One layer's beginning; what comes after it is joined on the fly, so memory is that of one layer at a time."""

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
