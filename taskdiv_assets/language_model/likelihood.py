"""Compute the log-likelihoods of given answers after given contexts, for multiple choice and exact match.

lm-eval's loop reads every context again for each answer of several tokens, and computes logits for all tokens. Our own loop reads
a common prefix once if the model allows it, and computes logits for the answers only. Results differ from lm-eval's by rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.alone import why_not_continued
from taskdiv_assets.language_model.batching import (
    CPU_TOKENS,
    LOGITS_AT_ONCE,
    Group,
    as_batch,
    shapes_of,
    vocabulary_size,
)
from taskdiv_assets.language_model.counted import apart_of, counted_padding
from taskdiv_assets.language_model.decoding import read_beginnings
from taskdiv_assets.language_model.footprint import fitting_tokens, weighing
from taskdiv_assets.language_model.loading import NO_LIMIT, context_tokens
from taskdiv_assets.language_model.memory import Room, cut
from taskdiv_assets.language_model.prefixes import (
    LARGE,
    Family,
    KeysAndValues,
    Tokens,
    can_share,
    families,
    standing_cache,
)
from taskdiv_assets.language_model.token_statistics import likeliest_and_log_sum

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.loading import LanguageModel

BoolArray = npt.NDArray[np.bool_]


class Asked(NamedTuple):
    """A context and one answer, in tokens. Together they are at most one token longer than the model's context."""

    context: Tokens
    answer: Tokens


class Found(NamedTuple):
    """The results of the answers at `positions`."""

    positions: npt.NDArray[np.int64]  # (r,) of the answers in the list of all answers
    nats: npt.NDArray[np.float64]  # (r,) log-likelihood of the full answer
    is_greedy: BoolArray  # (r,) each token of the answer is the likeliest at its place
    mean_probability: npt.NDArray[np.float64]  # (r,) mean of the probabilities of the answer's tokens
    first_choice: npt.NDArray[np.float64]  # (r,) share of the answer's tokens that are the likeliest at their place

    def take(self, chosen: BoolArray) -> Found:
        """Return the results of the answers that the mask `chosen` (r,) marks."""
        return Found._make([values[chosen] for values in self])


class _Text(NamedTuple):
    """Tokens of a context and an answer without the last token. The model reads equal texts once, for all answers in `asked`."""

    tokens: Tokens
    asked: tuple[int, ...]
    answer_n: int  # tokens of the longest answer


class LikelihoodPlan:
    """The division of texts into batches. It is the same for all adapters of a model and after a restart."""

    def __init__(self, lm: LanguageModel, asked: Sequence[Asked], log: Callable[[str], None] | None = None) -> None:
        self.lm, self.asked = lm, asked
        self.texts = _texts(asked)
        self.apart = apart_of(lm, "right")
        self.most_n = min(context_tokens(lm) or NO_LIMIT, *self.apart.switches, NO_LIMIT)
        self.families = self._families()
        longest_n = max((len(text.tokens) for text in self.texts), default=1)
        memory = weighing(lm, longest_n, max((text.answer_n for text in self.texts), default=1))
        self.room = Room(lm.device, 1, log, fitting_tokens(memory, lm.device))
        self.tokens_n = CPU_TOKENS if lm.device.type == "cpu" else shapes_of(lm).tokens
        accepted = inspect.signature(lm.model.forward).parameters
        self.takes_positions = "position_ids" in accepted or "kwargs" in accepted

    def _families(self) -> list[Family]:
        """Group the texts by common prefixes, except where this could change results (see `counted`, `alone`, `apart`)."""
        is_usual = not (counted_padding(self.lm).left or self.apart.is_exact or why_not_continued(self.lm))
        shares = can_share(self.lm) and is_usual
        sizes = [len(text.tokens) for text in self.texts]
        shared = [place for place, size in enumerate(sizes) if shares and self.apart.key(size) == (0, 0)]
        shareable = [sizes[place] - self.texts[place].answer_n for place in shared]
        found = [
            Family(tuple(shared[member] for member in family.members), family.prefix_n)
            for family in families([self.texts[place].tokens for place in shared], shareable)
        ]
        others = tuple(sorted(set(range(len(sizes))).difference(shared)))
        return [*found, Family(others, 0)] if others else found

    def run(self, is_known: BoolArray | None = None) -> Iterator[Found]:
        """Yield the likelihoods of answers under the active adapter. Answers that the mask `is_known` (n,) marks are left out."""
        known = np.zeros(len(self.asked), np.bool_) if is_known is None else is_known
        small: list[Family] = []
        for family in self.families:
            if family.prefix_n and len(family.members) < LARGE:
                small.append(family)
            else:
                yield from self._large(family, known)
        yield from self._small(small, known)

    def _large(self, family: Family, known: BoolArray) -> Iterator[Found]:
        """Yield the results of one family, long texts first. Its prefix, if any, is read once."""
        before_n, beginning = family.prefix_n, None
        rests = {member: self.texts[member].tokens[before_n:] for member in family.members}
        order = sorted(family.members, key=lambda member: -len(rests[member]))

        def rows_of(left: Sequence[int]) -> int:
            answers_n = (self.texts[member].answer_n for member in left)
            rows_n = self._rows_of(len(rests[left[0]]), answers_n, self.tokens_n)
            return self.apart.run_n([len(self.texts[member].tokens) for member in left[:rows_n]])

        for now in cut(order, rows_of):
            if not self._is_open(now, known):
                continue
            if before_n and beginning is None:
                beginning = self._read([self.texts[now[0]].tokens[:before_n]])
            group = Group(np.array(now), len(rests[now[0]]), True)
            look = partial(self._look, before_n=before_n, beginning=beginning)
            for one in self.room.halved(group, before_n + group.length, look):
                yield from self._unknown(one, known)

    def _small(self, small: Sequence[Family], known: BoolArray) -> Iterator[Found]:
        """Yield the results of families with fewer than LARGE texts.

        A batch contains several families. Their prefixes are read first, then the rest of each text after its prefix.
        """

        def rows_of(left: Sequence[Family]) -> int:
            answers_n = (sum(self.texts[member].answer_n for member in family.members) for family in left)
            tokens_n = shapes_of(self.lm).tokens
            return self._fitting_n(left[: self._rows_of(self._longest_n(left[0]) * LARGE, answers_n, tokens_n)])

        for now in cut(sorted(small, key=lambda family: -self._longest_n(family)), rows_of):
            width = self._longest_n(now[0])
            if self._is_open([member for family in now for member in family.members], known):
                group = Group(np.arange(len(now)), width, True)
                for one in self.room.halved(group, width * LARGE, partial(self._branch, now)):
                    yield from self._unknown(one, known)

    def _longest_n(self, family: Family) -> int:
        return max(len(self.texts[member].tokens) for member in family.members)

    def _fitting_n(self, order: Sequence[Family]) -> int:
        """Return how many families from the start of `order` fit into one batch, at least 1.

        The longest prefix plus the longest rest of a text may have at most `most_n` tokens.
        """
        head_n = rest_n = 0
        for place, family in enumerate(order):
            head_n = max(head_n, family.prefix_n)
            rest_n = max(rest_n, self._longest_n(family) - family.prefix_n)
            if place and head_n + rest_n > self.most_n:
                return place
        return len(order)

    def _branch(self, families_now: Sequence[Family], group: Group) -> Found:
        import torch

        some = [families_now[place] for place in group.positions]
        self.room.rows_now_n = len(some)
        heads = [self.texts[family.members[0]].tokens[: family.prefix_n] for family in some]
        width = max(map(len, heads))
        batch = as_batch(self.lm, heads, Group(np.arange(len(heads)), width, min(map(len, heads)) < width), len(heads))
        rows = torch.tensor([i for i, family in enumerate(some) for _ in family.members], device=self.lm.device)
        members = [member for family in some for member in family.members]
        befores = [family.prefix_n for family in some for _ in family.members]
        known = read_beginnings(self.lm, batch).of_rows(rows)
        return self._score(members, befores, known, batch.attention_mask[rows] if batch.is_padded else None)

    def _look(self, group: Group, before_n: int, beginning: KeysAndValues | None) -> Found:
        members = group.positions.tolist()
        self.room.rows_now_n = len(members)
        return self._score(members, [before_n] * len(members), beginning, None)

    def _score(
        self, members: list[int], befores: list[int], known: KeysAndValues | None, mask: torch.Tensor | None
    ) -> Found:
        """Return the results for the texts `members` from one pass over the rest of each text after its prefix.

        The prefixes are `known` (None: no prefixes). `befores` are their lengths in tokens, and `mask` is their attention mask
        (None: no padding). The rests are padded on the right, so causal attention ignores the padding.
        """
        import torch

        rests = [self.texts[member].tokens[before:] for member, before in zip(members, befores, strict=True)]
        width = max(map(len, rests))
        batch = as_batch(self.lm, rests, Group(np.arange(len(rests)), width, False), len(rests), "right")
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
        if known is not None:
            inputs |= {"past_key_values": standing_cache(self.lm, known), "use_cache": True}
        if mask is not None:
            inputs["attention_mask"] = torch.cat([mask, torch.ones_like(batch.input_ids)], 1)
            if self.takes_positions:
                starts = torch.tensor(befores, device=self.lm.device)[:, None]
                inputs["position_ids"] = starts + torch.arange(width, device=self.lm.device)
        chosen = [
            (row, column)
            for row, (member, rest) in enumerate(zip(members, rests, strict=True))
            for column in range(len(rest) - self.texts[member].answer_n, len(rest))
        ]
        places = torch.tensor(chosen, device=self.lm.device).T
        return self._found(members, chosen, logits_at(self.lm, self.lm.model, inputs, *places))

    def _found(self, members: list[int], chosen: list[tuple[int, int]], logits: torch.Tensor) -> Found:
        """Return the results of all answers to the texts `members` from the logits at the places `chosen`."""
        import torch

        # The places of a text's longest answer are consecutive.
        ends = np.cumsum([self.texts[member].answer_n for member in members]).tolist()
        asked = [(end, one) for end, member in zip(ends, members, strict=True) for one in self.texts[member].asked]
        flat = [
            (end - len(self.asked[one].answer) + step, token)
            for end, one in asked
            for step, token in enumerate(self.asked[one].answer)
        ]
        places, tokens = torch.tensor(flat, device=logits.device).T
        best, log_sums = likeliest_and_log_sum(logits)
        log_probabilities = logits[places, tokens] - log_sums[places]
        right = (best[places] == tokens).cpu().numpy()
        starts = np.cumsum([0, *(len(self.asked[one].answer) for _, one in asked)])[:-1]
        of_tokens = log_probabilities.double().cpu().numpy()
        tokens_n = np.add.reduceat(np.ones(len(flat)), starts)
        # Rounding can make the logarithm of a probability of 1 positive.
        sums = (np.add.reduceat(values, starts) for values in (of_tokens, np.exp(of_tokens).clip(max=1.0), 1.0 * right))
        nats, probability, first_n = sums
        ones = np.array([one for _, one in asked])
        is_greedy = np.logical_and.reduceat(right, starts)
        return Found(ones, nats, is_greedy, probability / tokens_n, first_n / tokens_n)

    def _read(self, heads: list[Tokens]) -> KeysAndValues:
        import torch

        group = Group(np.arange(len(heads)), max(map(len, heads)), False)
        with torch.inference_mode():
            return read_beginnings(self.lm, as_batch(self.lm, heads, group, len(heads)))

    def _rows_of(self, length: int, answers_n: Iterable[int], tokens_n: int) -> int:
        """Return how many rows to read at once, at least 1: up to `tokens_n` tokens and LOGITS_AT_ONCE logits.

        `answers_n` yields the number of places with logits of each row.
        """
        rows_n = max(1, min(shapes_of(self.lm).rows, tokens_n // length))
        logits = np.cumsum(list(islice(answers_n, rows_n))) * vocabulary_size(self.lm)
        return max(1, int(np.searchsorted(logits, LOGITS_AT_ONCE, "right")))

    def _is_open(self, members: Sequence[int], known: BoolArray) -> bool:
        return any(not known[one] for member in members for one in self.texts[member].asked)

    def _unknown(self, found: Found, known: BoolArray) -> Iterator[Found]:
        chosen = ~known[found.positions]
        if chosen.any():
            yield found.take(chosen)


def logits_at(
    lm: LanguageModel,
    model: Any,  # the model of `lm`, or an adapter over it
    inputs: dict[str, Any],
    rows: torch.Tensor,  # (places,)
    columns: torch.Tensor,  # (places,)
) -> torch.Tensor:
    """Return float32 logits, (places, vocabulary), at the places (`rows`, `columns`) of the input.

    A hook selects the hidden states of these places before the output layer. transformers' option `logits_to_keep` would compute
    logits for all rows at each column.
    """
    head = lm.model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _head, states: states[0][rows, columns][None])
    try:
        logits: torch.Tensor = model(**inputs).logits[0]
    finally:
        hook.remove()
    return logits.float()


def _texts(asked: Sequence[Asked]) -> list[_Text]:
    of: dict[Tokens, list[int]] = {}
    for place, one in enumerate(asked):
        of.setdefault((one.context + one.answer)[:-1], []).append(place)
    return [
        _Text(tokens, tuple(places), max(len(asked[place].answer) for place in places)) for tokens, places in of.items()
    ]
