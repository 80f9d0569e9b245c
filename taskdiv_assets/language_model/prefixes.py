"""Find common prefixes of texts, such as a benchmark's worked examples, so that their keys and values are computed once."""

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
LEAST_SHARED = 32  # tokens; a separate pass for a shorter prefix costs more than it saves
LARGE = 8  # a prefix that at least this many texts share has its own batches


class Family(NamedTuple):
    """Texts with one common prefix."""

    members: tuple[int, ...]  # positions of the texts
    prefix_n: int  # length of the prefix in tokens; 0 for texts that share none


class KeysAndValues(NamedTuple):
    """Prefixes of texts, with the model's keys and values, which are empty if the model cannot share prefixes."""

    input_ids: torch.Tensor  # (rows, tokens)
    keys: tuple[torch.Tensor, ...]  # one tensor for each layer, (rows, heads, tokens, width)
    values: tuple[torch.Tensor, ...]  # same shapes as the keys
    allows_gap: bool  # padding may come between a prefix and its continuation

    @property
    def tokens_n(self) -> int:
        return int(self.input_ids.shape[1])

    def of_rows(self, rows: torch.Tensor) -> KeysAndValues:
        """Return the prefixes in the rows `rows`, in this order; a row may occur several times."""
        keys, values = (tuple(one[rows] for one in kept) for kept in (self.keys, self.values))
        return self._replace(input_ids=self.input_ids[rows], keys=keys, values=values)


class _Open(NamedTuple):
    """Texts that are neighbours in sorted order and share their first tokens; more such texts may follow."""

    prefix_n: int
    start: int  # place of the first neighbour in sorted order
    parts: list[Family]  # families among the neighbours that share a longer prefix


def families(
    texts: Sequence[Tokens],
    shareable_n: Sequence[int],  # how many of each text's first tokens may be shared
    least_n: int = 2,  # smallest number of members of a family
) -> list[Family]:
    """Group texts by common prefixes of at least LEAST_SHARED tokens. All other texts form one family with a prefix of length 0.

    Prefixes may be nested, such as an instruction alone, and this instruction with worked examples. The texts with the longer
    prefix form their own family if this prefix saves at least as many tokens for them as the shorter prefix would. The other
    texts with the shorter prefix form a family. But if they are fewer than `least_n`, or if families with longer prefixes alone
    save more tokens in total, the shorter prefix is not shared.

    >>> story, other = tuple(range(40)), tuple(range(100, 140))
    >>> families([story + (1,), other + (1,), story + (2,)], [40, 40, 40])
    [Family(members=(0, 2), prefix_n=40), Family(members=(1,), prefix_n=0)]
    """
    heads = [text[:some_n] for text, some_n in zip(texts, shareable_n, strict=True)]
    order = sorted(range(len(texts)), key=lambda place: heads[place])
    arrays = [np.array(heads[place], np.int64) for place in order]
    common = [_common(first, second) for first, second in pairwise(arrays)]
    levels: list[_Open] = []  # each level shares more tokens than the level before, and is a part of it
    found: list[Family] = []
    for place, next_n in enumerate([*common, -1]):  # the tokens that the text at this place shares with the next text
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
    """Return the families of `parts` whose longer prefix saves at least as many tokens as a prefix of `prefix_n` tokens would.

    Also return one family of the other members. If all these families save fewer tokens than `parts`, or if the other members
    are fewer than `least_n`, return `parts`.
    """
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
    """Return True if a model takes and returns a cache of keys and values. GPT-1, RWKV and Mamba do not."""
    accepted = inspect.signature(lm.model.forward).parameters
    return "past_key_values" in accepted and not getattr(lm.model, "_is_stateful", False)


def can_share(lm: LanguageModel) -> bool:
    """Return True if all layers cache the keys and values of all tokens, without sliding windows or overwritten states."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if not keeps_cache(lm):
        return False
    layers = DynamicCache(config=lm.model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def standing_cache(lm: LanguageModel, known: KeysAndValues) -> Any:
    """Return a read-only cache of prefixes for one pass. `known` has one row for all texts, or one row for each text."""
    from transformers.cache_utils import DynamicCache

    made = DynamicCache(config=lm.model.config)
    made.layers = [_standing_layer()(*pair) for pair in zip(known.keys, known.values, strict=True)]
    return made


@cache
def _standing_layer() -> Any:
    import torch
    from transformers.cache_utils import DynamicLayer

    class StandingLayer(DynamicLayer):  # type: ignore[misc]  # mypy does not follow transformers: its class is Any
        """Keys and values of a prefix in one layer. `update` returns a longer copy and does not store it, which saves memory."""

        def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
            super().__init__()
            self.lazy_initialization(keys, values)
            self.keys, self.values = keys, values

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return _joined(self.keys, key_states), _joined(self.values, value_states)

    def _joined(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return torch.cat([before.expand(len(after), -1, -1, -1), after], dim=-2)

    return StandingLayer
