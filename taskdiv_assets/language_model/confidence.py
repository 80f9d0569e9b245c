"""How sure a model is of each prompt: of its own greedy continuation, or of the prompt's own tokens.

In: prompts, already rendered into the experiment's template. Out: a column for each statistic of the confidence table,
batch by batch as they come, so that whoever keeps them loses little to a kill (`assets.scoring`). What is called
`confidence` is decided elsewhere (`taskdiv_assets.confidence`).

We decode in a loop of our own. transformers' `generate` keeps every row of a batch until the last one ends, and either
keeps all logits or runs a processor on each step without knowing which rows are still open; its continuous batching
returns the chosen token's log-probability and neither entropy nor margin. docs/CONFIDENCE.md has the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.alone import why_not_continued
from taskdiv_assets.language_model.batching import (
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
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens, end_tokens
from taskdiv_assets.language_model.memory import Room
from taskdiv_assets.language_model.token_statistics import FLOATS, Totals, statistics

if TYPE_CHECKING:
    import torch

    Logits = torch.Tensor  # (rows, …, vocabulary)

Of = Literal["continuation", "prompt"]
Columns = dict[str, npt.NDArray[Any]]
GPU_ROWS = 8  # on a GPU, rows of a batch are a multiple of this: tensor cores take so many at once
LOGITS_AT_ONCE = 2**25  # numbers, 128 MiB in float32: where the logits of whole prompts are needed


class Scored(NamedTuple):
    """One batch's statistics."""

    positions: npt.NDArray[np.int64]  # (r,) which prompts
    columns: Columns  # (r,) each


class Confidences(NamedTuple):
    """Statistics of all prompts; `columns` in the prompts' order, (n,) each."""

    columns: Columns
    cut: npt.NDArray[np.int64]  # prompts that lost their beginning to fit into the context
    tokens_n: int  # counted
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
    """Score all prompts at once; arguments and errors as for `Scorer`."""
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
    """The columns of the confidence table, but for prompt_id and confidence; to be filled."""
    floats: Columns = {name: np.full(prompts_n, np.nan) for name in FLOATS}
    return {"generated_n": np.zeros(prompts_n, np.int32), "truncated": np.zeros(prompts_n, np.bool_), **floats}


class Scorer:
    """Statistics of prompts, batch by batch.

    On a CPU in float32 with one thread, those of a prompt are bit-identical whatever else is scored with it
    (`batching`). Prompts longer than the model's context, less `max_new_tokens` where a continuation follows, lose their
    beginning; they stand in `cut`.

    Args:
        lm: a causal language model.
        prompts: n rendered prompts.
        max_new_tokens: tokens a continuation may have, EOS included.
        of: the model's own greedy continuation; or the prompt's own tokens in one pass, which costs a fraction. There
            `generated_n` counts the tokens that were predicted, and nothing is truncated.
        name_of: what to call the i-th prompt in a message.
        log: called where memory ran out and batches were halved, and where the model counts unexpected padding.

    Raises:
        ValueError: a prompt without tokens, a context too short for `max_new_tokens`, a model that cannot be decoded in
            batches (`alone`), logits that are not finite, or no memory for one single prompt.
    """

    def __init__(
        self,
        lm: LanguageModel,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        of: Of = "continuation",
        name_of: Callable[[int], str] = "in row {}".format,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.lm, self.of, self.max_new_tokens, self.name_of, self.log = lm, of, max_new_tokens, name_of, log
        self.limit = _limit(lm, max_new_tokens if of == "continuation" else 0)
        if of == "continuation" and (why := why_not_continued(lm)):
            raise ValueError(
                f"{type(lm.model).__name__} cannot continue prompts here: {why}; use another model, or "
                "`confidence: {of: prompt}`"
            )
        tokens = tokenise(lm, prompts, self.limit, name_of=name_of)
        self.rows, self.cut = tokens.rows, tokens.cut
        self.keeps_bits = keeps_bits(lm)
        self.steps = row_steps(lm) if self.keeps_bits else RowSteps(GPU_ROWS, 1)
        self.room = Room(lm.device, self.steps.step, log)
        is_fixed = self.keeps_bits and of == "continuation" and bool(prompts) and rows_matter(lm)
        self.free_step = None if is_fixed else self.steps.step

    def run(self, is_known: npt.NDArray[np.bool_] | None = None) -> Iterator[Scored]:
        """Score what is not known yet, long prompts first.

        Batches are planned over all prompts, and those that are known whole are left out: so a run that goes on after a
        kill makes the same batches as one that was not disturbed.

        Args:
            is_known: (n,) prompts to leave out; none by default.
        """
        import torch

        known = np.zeros(len(self.rows), np.bool_) if is_known is None else is_known
        with torch.inference_mode():
            for group in self._groups():
                left = group._replace(positions=group.positions[~known[group.positions]])
                if len(left.positions):
                    yield from self.room.halved(left, group.length + self._new_n, self._score)

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
            width = length if self.keeps_bits else length + self._new_n  # on a GPU the cache is what takes the room
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
        columns = totals.columns(len(group.positions))
        self._check(group.positions, columns)
        return Scored(group.positions, columns)

    def _check(self, positions: npt.NDArray[np.int64], columns: Columns) -> None:
        """Refuse a prompt without a predicted token, and logits that are not finite: they stay in the sums."""
        nothing = positions[columns["generated_n"] == 0]
        if len(nothing):
            raise ValueError(
                f"prompt {self.name_of(int(nothing[0]))} has one token, and nothing before it that could predict it; "
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
    """Prompts of one length whose logits at every position are made at once, in whole steps."""
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
    """Decode one batch greedily until every real row has ended; statistics are taken on the way, no logits are kept.

    Args:
        lm: a causal language model.
        batch: padded on the left.
        max_new_tokens: tokens a continuation may have.
        drop_step: rows that have ended leave the batch, in whole steps of so many. None: they keep their place.
    """
    import torch

    decoding = Decoding(lm, batch, max_new_tokens)
    totals = Totals(len(batch.input_ids), lm.device)
    ends = torch.tensor(end_tokens(lm), device=lm.device)
    look_every = steps_a_look(lm)
    rows = torch.arange(len(batch.input_ids), device=lm.device)
    is_open = rows < len(batch.positions)
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
    """Statistics of a batch's own tokens, each as the model predicts it from those before it; padded on the right.

    No mask: attention is causal, so padding at the end is never looked at by a real token. The first token has nothing
    before it, so it is not counted.
    """
    step = statistics(lm.model(input_ids=batch.input_ids, use_cache=False).logits[:, :-1], batch.input_ids[:, 1:])
    numbers, is_real = step.numbers, batch.attention_mask[:, 1:].bool()  # (4, rows, length - 1), (rows, length - 1)
    totals = Totals(len(batch.input_ids), lm.device)
    totals.counted_n = is_real.sum(1).int()
    totals.sums = numbers.where(is_real, 0.0).sum(2)
    totals.least = numbers[[0, 3]].where(is_real, float("inf")).amin(2)
    totals.first = numbers[0, :, 0]
    totals.has_ended[:] = True
    return totals
