"""Measure how sure a model is of its own greedy continuation of each prompt, or of the prompt's own tokens.

The statistics come batch by batch, so that `services.scoring` can store each batch. `taskdiv_assets.confidence` decides which
statistic is called `confidence`.

The decoding loop is ours, because transformers' `generate` keeps every row of a batch until the last row ends, and its
continuous batching returns neither entropy nor margin. docs/CONFIDENCE.md contains measurements.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.alone import why_not_continued
from taskdiv_assets.language_model.batching import (
    LOGITS_AT_ONCE,
    Batch,
    Group,
    RowSteps,
    Shapes,
    as_batch,
    filled_rows,
    groups,
    keeps_bits,
    row_steps,
    rows_in_batch,
    rows_matter,
    shapes_of,
    sorted_groups,
    tokenise,
    vocabulary_size,
)
from taskdiv_assets.language_model.counted import apart_of, unexpected
from taskdiv_assets.language_model.decoding import Decoding, kept_rows, steps_a_look
from taskdiv_assets.language_model.footprint import continuing, fitting_tokens, reading, shape_of, work_of
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens, end_tokens
from taskdiv_assets.language_model.memory import Room
from taskdiv_assets.language_model.packed import Packed, by_length, can_pack, packs
from taskdiv_assets.language_model.token_statistics import FLOATS, Totals, statistics

if TYPE_CHECKING:
    import torch

    Logits = torch.Tensor  # (rows, …, vocabulary)

Of = Literal["continuation", "prompt"]
Columns = dict[str, npt.NDArray[Any]]
GPU_ROWS = 8  # on a GPU, the rows of a batch are a multiple of this, because tensor cores take 8 rows at once


class Scored(NamedTuple):
    """The statistics of one batch."""

    positions: npt.NDArray[np.int64]  # (r,) which prompts
    columns: Columns  # (r,) each


class Confidences(NamedTuple):
    """The statistics of all prompts. `columns` are in the order of the prompts, (n,) each."""

    columns: Columns
    cut: npt.NDArray[np.int64]  # positions of the prompts that lost their beginning to fit into the context
    tokens_n: int  # tokens with statistics
    score_s: float


def score(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    of: Of = "continuation",
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> Confidences:
    started = time.perf_counter()
    scorer = Scorer(lm, prompts, max_new_tokens=max_new_tokens, of=of, log=log)
    columns = empty_columns(len(prompts))
    done_n = 0
    for positions, found in scorer.run():
        for name, values in found.items():
            columns[name][positions] = values
        done_n += len(positions)
        if progress:
            progress(done_n, len(prompts))
    return Confidences(columns, scorer.cut, int(columns["generated_n"].sum()), time.perf_counter() - started)


def empty_columns(prompts_n: int) -> Columns:
    """Return the columns of the confidence table except prompt_id and confidence, filled with 0, False and NaN."""
    floats: Columns = {name: np.full(prompts_n, np.nan) for name in FLOATS}
    return {"generated_n": np.zeros(prompts_n, np.int32), "truncated": np.zeros(prompts_n, np.bool_), **floats}


class Scorer:
    """A scorer that yields the statistics of prompts batch by batch.

    A prompt that does not fit into the context, with its continuation if any, loses its beginning and is listed in `cut`.

    Raises:
        ValueError: a prompt has too few tokens or does not fit into memory, `max_new_tokens` leaves no room in the context,
            the model cannot decode in batches (see `alone`), or logits are not finite.
    """

    def __init__(
        self,
        lm: LanguageModel,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,  # of a continuation, EOS included
        # "continuation": the model's own greedy continuation. "prompt": the prompt's own tokens in one pass, which is much
        # cheaper; `generated_n` then counts the predicted tokens, and no prompt is `truncated`.
        of: Of = "continuation",
        name_of: Callable[[int], str] = "in row {}".format,  # name of the i-th prompt in a message
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.lm, self.of, self.max_new_tokens, self.name_of, self.log = lm, of, max_new_tokens, name_of, log
        self.limit = _limit(lm, max_new_tokens if of == "continuation" else 0)
        self.is_packed = of == "continuation" and bool(prompts) and can_pack(lm)
        if of == "continuation" and not self.is_packed and (why := why_not_continued(lm)):
            raise ValueError(
                f"{type(lm.model).__name__} cannot continue prompts here: {why}; use another model, or "
                "`confidence: {of: prompt}`"
            )
        tokens = tokenise(lm, prompts, self.limit, name_of=name_of)
        self.rows, self.cut = tokens.rows, tokens.cut
        self.keeps_bits = keeps_bits(lm)
        self.steps = row_steps(lm) if self.keeps_bits else RowSteps(GPU_ROWS, 1)
        longest_n = max(map(len, self.rows), default=1)
        memory = continuing(lm, longest_n, len(prompts), max_new_tokens) if self._new_n else reading(lm, longest_n)
        step_n = 1 if self.is_packed else self.steps.step
        self.room = Room(lm.device, step_n, log, fitting_tokens(memory, lm.device))
        can_be_fixed = self.keeps_bits and of == "continuation" and bool(prompts) and not self.is_packed
        self.free_step = None if can_be_fixed and rows_matter(lm) else self.steps.step

    def run(self, is_known: npt.NDArray[np.bool_] | None = None) -> Iterator[Scored]:
        """Score the prompts, long ones first. Prompts that the mask `is_known` (n,) marks are left out.

        If `keeps_bits` is True, the statistics of a prompt do not depend on the mask.
        """
        found = packs(self.lm, self.rows, self.limit, is_known) if self.is_packed else self._groups()
        work = self._score_packed if self.is_packed else self._score
        yield from self.room.run(found, work, new_n=self._new_n, known=is_known)

    def work(self) -> npt.NDArray[np.float64]:
        """Return the expected work for each prompt, (n,), in a unit that only serves to compare prompts."""
        shape = shape_of(self.lm.model)
        whole = self.of == "prompt"  # then all tokens need logits
        sizes = map(len, self.rows)
        found = [work_of(shape, 0 if whole else size, size if whole else self.max_new_tokens) for size in sizes]
        return np.array(found, np.float64)

    def _groups(self) -> list[Group]:
        if self.log and (said := unexpected(self.lm)):
            self.log(said)
        apart = apart_of(self.lm, "left" if self.of == "continuation" else "right", self._new_n)
        if self.keeps_bits:
            return groups(self.rows, self.limit, self._rows_of, apart)
        return sorted_groups(self.rows, self._rows_of, apart)

    @property
    def _new_n(self) -> int:
        return self.max_new_tokens if self.of == "continuation" else 0

    def _rows_of(self, length: int) -> int:
        shapes, vocabulary_n = shapes_of(self.lm), vocabulary_size(self.lm)
        if self.of == "continuation":
            width = length if self.keeps_bits else length + self._new_n  # on a GPU the cache takes most memory
            return rows_in_batch(width, vocabulary_n, self.steps, shapes)
        return rows_for_logits(length, vocabulary_n, self.steps, shapes)

    def _score(self, group: Group) -> Scored:
        most_n = self.room.rows_of(self._rows_of(group.length), group.length + self._new_n)
        rows_n = self.room.rows_now_n = filled_rows(len(group.positions), most_n, self.free_step)
        if self.of == "continuation":
            batch = as_batch(self.lm, self.rows, group, rows_n)
            totals = continued(self.lm, batch, self.max_new_tokens, drop_step=self.free_step)
        else:
            totals = read(self.lm, as_batch(self.lm, self.rows, group, rows_n, "right"))
        return self._scored(group.positions, totals)

    def _score_packed(self, group: Group) -> Scored:
        self.room.rows_now_n = len(group.positions)
        parts = by_length(self.lm, self.rows, group.positions, self.limit)
        batches = [as_batch(self.lm, self.rows, part, len(part.positions)) for part in parts]
        positions = np.concatenate([part.positions for part in parts])
        decoding = Packed(self.lm, batches, self.max_new_tokens)
        totals = decoded(self.lm, decoding, len(positions), len(positions), self.max_new_tokens, drop_step=1)
        return self._scored(positions, totals)

    def _scored(self, positions: npt.NDArray[np.int64], totals: Totals) -> Scored:
        columns = totals.columns(len(positions))
        self._check(positions, columns)
        return Scored(positions, columns)

    def _check(self, positions: npt.NDArray[np.int64], columns: Columns) -> None:
        nothing = positions[columns["generated_n"] == 0]
        if len(nothing):
            raise ValueError(
                f"prompt {self.name_of(int(nothing[0]))} has one token, which cannot be predicted from an earlier one; "
                "use `confidence: {of: continuation}`, or add text to the prompt template"
            )
        is_bad = ~np.isfinite([columns[name] for name in FLOATS]).all(axis=0)
        if is_bad.any():
            what = "its continuation" if self.of == "continuation" else "its own tokens"
            raise ValueError(
                f"the model's logits for prompt {self.name_of(int(positions[is_bad][0]))} ({what}) are not finite: the "
                "weights are damaged, or the dtype overflows; try `base_model: {dtype: float32}`"
            )


def rows_for_logits(length: int, vocabulary_n: int, steps: RowSteps, shapes: Shapes) -> int:
    """Return how many prompts of one length share a pass with logits at every position: a multiple of `steps.least`."""
    rows = min(shapes.rows, shapes.tokens // length, LOGITS_AT_ONCE // (length * vocabulary_n))
    return max(rows // steps.least, 1) * steps.least


def _limit(lm: LanguageModel, new_n: int) -> int | None:
    context = context_tokens(lm)
    limit = None if context is None else context - new_n
    if limit is not None and limit < 1:
        raise ValueError(
            f"max_new_tokens {new_n} leaves no room for a prompt in this model's context of {context} tokens; "
            f"set `confidence: {{max_new_tokens: …}}` below {context}"
        )
    return limit


def continued(lm: LanguageModel, batch: Batch, max_new_tokens: int, *, drop_step: int | None) -> Totals:
    """Decode one batch greedily, and return the statistics of each row. The batch is padded on the left.

    Rows that have ended are dropped such that a multiple of `drop_step` rows remains. If `drop_step` is None, all rows stay.
    """
    decoding = Decoding(lm, batch, max_new_tokens)
    return decoded(lm, decoding, len(batch.input_ids), len(batch.positions), max_new_tokens, drop_step=drop_step)


def decoded(
    lm: LanguageModel,
    decoding: Decoding | Packed,
    rows_n: int,
    real_n: int,
    max_new_tokens: int,
    *,
    drop_step: int | None,
) -> Totals:
    """Decode `rows_n` rows, and return their statistics, as `continued` does.

    The first `real_n` rows are prompts. The other rows are copies, and nothing is added to their statistics.
    """
    import torch

    totals = Totals(rows_n, lm.device)
    ends = torch.tensor(end_tokens(lm), device=lm.device)
    look_every = steps_a_look(lm)
    rows = torch.arange(rows_n, device=lm.device)
    is_open = rows < real_n
    for index in range(max_new_tokens):
        step = statistics(decoding.next_logits())
        totals.add(rows, step.numbers, is_open)
        if len(ends):
            has_ended = torch.isin(step.token, ends) & is_open
            totals.has_ended[rows] |= has_ended
            is_open = is_open & ~has_ended
        if index + 1 < max_new_tokens:
            kept = None
            if (index + 1) % look_every == 0:
                open_n = int(is_open.sum())
                if not open_n:
                    break
                kept = kept_rows(is_open, open_n, drop_step) if drop_step else None
            if kept is not None:
                rows, is_open = rows[kept], is_open[kept]
            decoding.go_on(step.token, kept)
    return totals


def read(lm: LanguageModel, batch: Batch) -> Totals:
    """Return the statistics of a batch's own tokens, without the first token of each row. The batch is padded on the right."""
    step = statistics(lm.model(input_ids=batch.input_ids, use_cache=False).logits[:, :-1], batch.input_ids[:, 1:])
    numbers, is_real = step.numbers, batch.attention_mask[:, 1:].bool()  # (4, rows, length - 1), (rows, length - 1)
    totals = Totals(len(batch.input_ids), lm.device)
    totals.counted_n = is_real.sum(1).int()
    totals.sums = numbers.where(is_real, 0.0).sum(2)
    totals.least = numbers[[0, 3]].where(is_real, float("inf")).amin(2)
    totals.first = numbers[0, :, 0]
    totals.has_ended[:] = True
    return totals
