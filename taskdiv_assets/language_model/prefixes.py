"""Texts that begin alike: what they share is read once.

The worked examples before each question of a benchmark are the same for all questions of a task, and the question is the
same for each of its answers. Keys and values of such a beginning are computed once and stand before those of every text
that goes on from it. In exact arithmetic nothing changes.
"""

from __future__ import annotations

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
    """What a model keeps of some rows' tokens, layer by layer: (rows, heads, tokens, width)."""

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    @property
    def tokens_n(self) -> int:
        """Tokens of each row."""
        return int(self.keys[0].shape[-2])

    def of_rows(self, rows: torch.Tensor) -> KeysAndValues:
        """These rows, each as often as it is named."""
        return KeysAndValues(tuple(one[rows] for one in self.keys), tuple(one[rows] for one in self.values))


def families(texts: Sequence[Tokens], shareable_n: Sequence[int]) -> list[Family]:
    """Which texts shall share their beginning, and how much of it; texts without a partner stand in one family of 0.

    Runs of neighbours in sorted order that share at least `LEAST_SHARED` tokens make a family, unless families of equal
    contexts alone would save more: four endings of one long story, under one short instruction.

    Args:
        texts: n token sequences.
        shareable_n: how many of each text's first tokens may be shared.

    >>> story, other = tuple(range(40)), tuple(range(100, 140))
    >>> families([story + (1,), other + (1,), story + (2,)], [40, 40, 40])
    [Family(members=(0, 2), prefix_n=40), Family(members=(1,), prefix_n=0)]
    """
    order = sorted(range(len(texts)), key=lambda place: texts[place])
    heads = [np.array(texts[place][: shareable_n[place]], np.int64) for place in order]
    common = [_common(first, second) for first, second in pairwise(heads)]
    found: list[Family] = []
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or common[end - 1] < LEAST_SHARED:
            found += _best(order[start:end], common[start : end - 1], texts, shareable_n)
            start = end
    alone = tuple(sorted(member for family in found if family.prefix_n == 0 for member in family.members))
    shared = [family for family in found if family.prefix_n]
    return [*shared, Family(alone, 0)] if alone else shared


def _best(
    run: Sequence[int], common: Sequence[int], texts: Sequence[Tokens], shareable_n: Sequence[int]
) -> list[Family]:
    """One family, or one a context, whichever leaves fewer tokens to read."""
    if len(run) < 2:
        return [Family(tuple(run), 0)]
    whole = Family(tuple(run), min(common))
    by_context: dict[Tokens, list[int]] = {}
    for place in run:
        by_context.setdefault(texts[place][: shareable_n[place]], []).append(place)
    parts = [Family(tuple(places), len(head) if len(places) > 1 else 0) for head, places in by_context.items()]
    saved_n = sum((len(part.members) - 1) * part.prefix_n for part in parts)
    return parts if saved_n > (len(run) - 1) * whole.prefix_n else [whole]


def _common(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> int:
    """How many tokens two texts have in common at their beginning."""
    size = min(len(first), len(second))
    differing = np.flatnonzero(first[:size] != second[:size])
    return int(differing[0]) if len(differing) else size


def can_share(lm: LanguageModel) -> bool:
    """True where a model keeps all keys and values of all layers: no sliding windows, no states that are overwritten."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

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
