"""Decide which texts may share a batch of a model whose results depend on the batch's length.

LongRoPE (Phi-3, Phi-4-mini) and dynamic NTK scaling choose the rotary frequencies of all rows by the longest row. A switch is a
length in tokens beyond which the model uses other frequencies. Models whose results change with padding before or after a text
(see `counted`) need texts of one length in each batch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Apart(NamedTuple):
    """The rule that decides which texts may share a batch."""

    switches: tuple[int, ...] = ()  # lengths in tokens beyond which a model uses other frequencies, ascending
    is_exact: bool = False  # texts of different lengths never share a batch, and none is padded
    new_n: int = 0  # tokens that are written after a text; the last of them is never read

    def key(self, tokens_n: int) -> tuple[int, int]:
        """Return the class of a text. Only texts of one class share a batch.

        If a text passes a switch while tokens are written after it, it shares a batch only with texts of the same length. So all
        rows of a batch pass the switch at the same step.

        >>> rule = Apart(switches=(32,), new_n=8)
        >>> rule.key(20), rule.key(25), rule.key(26), rule.key(33)
        ((0, 0), (0, 0), (0, 26), (1, 0))
        """
        first = side(self.switches, tokens_n)
        passes = side(self.switches, tokens_n + max(self.new_n - 1, 0)) != first
        return first, tokens_n if self.is_exact or passes else 0

    def longest(self, tokens_n: int, padded_n: int) -> int:
        """Return the padded length of a text: `padded_n`, limited by the next switch; the text's own length if `is_exact`.

        >>> Apart(switches=(32,)).longest(30, 40), Apart(switches=(32,)).longest(33, 40), Apart(is_exact=True).longest(30, 40)
        (32, 40, 30)
        """
        if self.is_exact:
            return tokens_n
        return min([padded_n, *(one for one in self.switches if tokens_n <= one)])

    def run_n(self, sizes: list[int]) -> int:
        """Return how many lengths, from the start of `sizes`, are in the same class as the first length.

        >>> Apart(switches=(32,)).run_n([40, 33, 32, 31]), Apart().run_n([40, 33, 32])
        (2, 3)
        """
        return next((n for n, size in enumerate(sizes) if self.key(size) != self.key(sizes[0])), len(sizes))


def side(switches: tuple[int, ...], tokens_n: int) -> int:
    """Return the number of switches below `tokens_n`, the length of a text."""
    return bisect_left(switches, tokens_n)


def switches_of(config: Any) -> tuple[int, ...]:
    """Return the lengths beyond which a model uses other rotary frequencies; most models have none."""
    text = config.get_text_config()
    found = set()
    for rope in _ropes(getattr(text, "rope_parameters", None)):
        kind = str(rope.get("rope_type"))
        if kind == "longrope":
            found.add(rope.get("original_max_position_embeddings"))
        elif "dynamic" in kind:
            found.add(getattr(text, "max_position_embeddings", None))
    return tuple(sorted(int(one) for one in found if one))


def _ropes(parameters: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(parameters, Mapping):
        yield parameters
        for value in parameters.values():
            yield from _ropes(value)
