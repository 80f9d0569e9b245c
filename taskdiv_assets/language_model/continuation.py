"""Write greedy continuations of given contexts, up to a stop text, an end token or a number of new tokens.

transformers' `generate` computes ended rows until the last row ends, and reads shared worked examples again for each question.
In our own loop, ended rows leave the batch, and a common prefix is read once if the model allows it (see `prefixes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model import prefixes
from taskdiv_assets.language_model.alone import why_not_continued
from taskdiv_assets.language_model.batching import Group, as_batch, shapes_of
from taskdiv_assets.language_model.counted import apart_of, counted_padding
from taskdiv_assets.language_model.decoding import Decoding, Rereading, kept_rows, read_beginnings, steps_a_look
from taskdiv_assets.language_model.footprint import fitting_tokens, writing
from taskdiv_assets.language_model.loading import LanguageModel, end_tokens
from taskdiv_assets.language_model.memory import Room, cut

if TYPE_CHECKING:
    import torch

BoolArray = npt.NDArray[np.bool_]
# Settings of a generation configuration that change the text of greedy decoding, with their neutral values.
PROCESSORS: dict[str, float | None] = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "num_beams": 1,
    "suppress_tokens": None, "begin_suppress_tokens": None, "bad_words_ids": None, "sequence_bias": None, "min_new_tokens": None,
    "forced_bos_token_id": None, "forced_eos_token_id": None, "exponential_decay_length_penalty": None, "guidance_scale": None,
    "watermarking_config": None,
}  # fmt: skip


class Wanted(NamedTuple):
    """A context to continue, in tokens, and the texts at which its continuation stops."""

    context: prefixes.Tokens
    stop: tuple[str, ...]
    new_n: int  # largest number of new tokens


class Written(NamedTuple):
    """The continuations of the contexts at `positions`."""

    positions: list[int]
    texts: list[str]  # up to the first stop text, without special tokens
    is_cut: list[bool]  # the limit of new tokens ended the text, not a stop text or an end token


def can_write(lm: LanguageModel) -> bool:
    """Return True if the model has a cache, and its generation configuration does not change greedy decoding."""
    config = lm.model.generation_config
    is_neutral = all(getattr(config, name, None) in (None, neutral) for name, neutral in PROCESSORS.items())
    return is_neutral and prefixes.keeps_cache(lm)


class WritingPlan:
    """The division of contexts into batches. It is the same for all adapters.

    The model must be able to attend to each context and its new tokens together.
    """

    def __init__(self, lm: LanguageModel, wanted: Sequence[Wanted], log: Callable[[str], None] | None = None) -> None:
        self.lm, self.wanted = lm, wanted
        why = why_not_continued(lm) if wanted else ""
        self.rereads = bool(why)  # then one text at a time, without a cache
        if why and log:
            log(f"texts are written one at a time, and read again for each token: {why}")
        self.families = list(self._families())
        longest_n = max((len(one.context) + one.new_n for one in wanted), default=1)
        self.room = Room(lm.device, 1, log, fitting_tokens(writing(lm, longest_n), lm.device))

    def _families(self) -> Iterator[prefixes.Family]:
        """Yield families of contexts that have the same stop texts and the same limit of new tokens.

        If prefixes can be shared, contexts with a common prefix form a family if there are at least `prefixes.LARGE` of them. All
        other contexts with the same stop texts and limit form one family.
        """
        by_rule: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for place, one in enumerate(self.wanted):
            by_rule.setdefault((one.stop, one.new_n), []).append(place)
        shares = prefixes.can_share(self.lm) and not (self.rereads or counted_padding(self.lm).gap)
        for places in by_rule.values():
            contexts = [self.wanted[place].context for place in places]
            # A batch costs up to `new_n` steps, even with few rows. So a prefix of few contexts is not read separately.
            alone = [prefixes.Family(tuple(range(len(places))), 0)]
            heads_n = [len(one) - 1 for one in contexts]
            for family in prefixes.families(contexts, heads_n, prefixes.LARGE) if shares else alone:
                yield prefixes.Family(tuple(places[member] for member in family.members), family.prefix_n)

    def run(self, is_known: BoolArray | None = None) -> Iterator[Written]:
        """Yield the texts that the active adapter writes. Contexts that the mask `is_known` (n,) marks are left out."""
        known = np.zeros(len(self.wanted), np.bool_) if is_known is None else is_known
        for family in self.families:
            yield from self._family(family, known)

    def _family(self, family: prefixes.Family, known: BoolArray) -> Iterator[Written]:
        import torch

        before_n, beginning = family.prefix_n, None
        shapes = shapes_of(self.lm)

        def rows_of(left: Sequence[int]) -> int:
            first = self.wanted[left[0]]
            rows_n = min(shapes.rows, shapes.tokens // (len(first.context) + first.new_n))
            some = left[: 1 if self.rereads else max(1, rows_n)]
            apart = apart_of(self.lm, "left", first.new_n)
            return apart.run_n([len(self.wanted[member].context) for member in some])

        for now in cut(sorted(family.members, key=lambda member: -len(self.wanted[member].context)), rows_of):
            if all(known[member] for member in now):
                continue
            first = self.wanted[now[0]]
            if before_n and beginning is None:
                batch = as_batch(self.lm, [first.context[:before_n]], Group(np.array([0]), before_n, False), 1)
                with torch.inference_mode():
                    beginning = read_beginnings(self.lm, batch)
            group = Group(np.array(now), len(first.context) - before_n, False)
            write = partial(self._write, before_n=before_n, beginning=beginning)
            for one in self.room.halved(group, len(first.context) + first.new_n, write):
                chosen = [i for i, member in enumerate(one.positions) if not known[member]]
                positions, texts, is_cut = one
                yield Written([positions[i] for i in chosen], [texts[i] for i in chosen], [is_cut[i] for i in chosen])

    def _write(self, group: Group, before_n: int, beginning: prefixes.KeysAndValues | None) -> Written:
        members = group.positions.tolist()
        self.room.rows_now_n = len(members)
        rests = [self.wanted[member].context[before_n:] for member in members]
        width = max(map(len, rests))
        is_padded = min(map(len, rests)) < width
        batch = as_batch(self.lm, rests, Group(np.arange(len(rests)), width, is_padded), len(rests))
        rule = self.wanted[members[0]]
        writing = _Writing(self.lm, rule.stop, len(members))
        decoding = Rereading(self.lm, batch) if self.rereads else Decoding(self.lm, batch, rule.new_n, beginning)
        tokens = writing.run(decoding, rule.new_n)
        return Written(members, [writing.text(row) for row in tokens], writing.is_cut)


class _Writing:
    def __init__(self, lm: LanguageModel, stop: tuple[str, ...], rows_n: int) -> None:
        import torch

        self.lm, self.stop, self.rows_n = lm, tuple(one for one in stop if one), rows_n
        self.ends = end_tokens(lm)
        self.look_every = steps_a_look(lm)
        # A token is at least one byte of text, so this many last tokens contain every stop text that ends with the last token.
        self.window = max((len(one.encode()) for one in self.stop), default=0) + 2
        self.rows = torch.arange(rows_n, device=lm.device)
        self.is_cut = [True] * rows_n  # until the row ends

    def run(self, decoding: Decoding | Rereading, new_n: int) -> list[list[int]]:
        """Return the new tokens of each row, up to its end token or stop text, but at most `new_n` tokens."""
        import torch

        written: list[list[int]] = [[] for _ in range(self.rows_n)]
        is_open = torch.ones(self.rows_n, dtype=torch.bool, device=self.lm.device)
        waiting: list[torch.Tensor] = []
        for index in range(new_n):
            tokens = decoding.next_logits().argmax(-1)
            waiting.append(tokens)
            kept = None
            if (index + 1) % self.look_every == 0 or index + 1 == new_n:
                self._take(waiting, is_open, written)
                waiting = []
                open_n = int(is_open.sum())
                if not open_n or index + 1 == new_n:
                    break
                kept = kept_rows(is_open, open_n, 1)
            if kept is not None:
                self.rows, is_open = self.rows[kept], is_open[kept]
            decoding.go_on(tokens, kept)
        return written

    def _take(self, waiting: list[torch.Tensor], is_open: torch.Tensor, written: list[list[int]]) -> None:
        import torch

        new = torch.stack(waiting, 1).tolist()
        for place, (row, was_open) in enumerate(zip(self.rows.tolist(), is_open.tolist(), strict=True)):
            if was_open:
                written[row] += new[place]
                if self._has_ended(written[row], len(new[place])):
                    is_open[place] = False
                    self.is_cut[row] = False

    def _has_ended(self, tokens: list[int], new_n: int) -> bool:
        """Return True if the last `new_n` tokens contain an end token or the end of a stop text. Remove all tokens after it."""
        before_n = len(tokens) - new_n
        may_stop = self._has_stop(tokens[-self.window - new_n :])
        for end in range(before_n + 1, len(tokens) + 1):
            if tokens[end - 1] in self.ends or (may_stop and self._has_stop(tokens[max(0, end - self.window) : end])):
                del tokens[end:]
                return True
        return False

    def _has_stop(self, tokens: list[int]) -> bool:
        text = self.lm.tokenizer.decode(tokens, skip_special_tokens=False)
        return any(one in text for one in self.stop)

    def text(self, tokens: list[int]) -> str:
        text = str(self.lm.tokenizer.decode(tokens, skip_special_tokens=True))
        for one in self.stop:
            text = text.split(one)[0]
        return text
