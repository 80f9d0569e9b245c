"""Draw the examples of each training step, and lay them out in the tensors of the step's passes.

The loss of a step is the mean over all its completion tokens. So the layout (padded or packed rows, number of passes and
processes) changes results by rounding only. In TRL, the number of steps depends on the lengths of the examples, because TRL
packs rows before it forms steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.apart import side
from taskdiv_assets.language_model.tuning.training_examples import IGNORED, Encoded
from taskdiv_assets.selection.streams import generator

IntArray = npt.NDArray[np.int64]
Row = tuple[int, ...]  # positions of the examples in one row


class Batch(NamedTuple):
    """The arrays of one pass, (rows, tokens). In a packed row, position ids start again at 0 for each example."""

    input_ids: IntArray
    labels: IntArray
    position_ids: IntArray | None  # None: one example a row


class Layout(NamedTuple):
    """How the examples of a step are arranged in rows and passes."""

    pass_tokens_n: int  # largest number of tokens of a pass, padding included; a longer row has its own pass
    row_tokens_n: int | None = None  # largest number of tokens of a packed row; None for one example a row
    switches: tuple[int, ...] = ()  # see `apart`; all examples of a pass are on one side of each switch


def draw_steps(examples_n: int, batch_size: int, epochs: int, min_steps_n: int, seed: int) -> list[IntArray]:
    """Return the positions of each step's examples: every epoch is a new random order, cut into steps of `batch_size`.

    The last step of an epoch takes the remaining examples. If `epochs` give fewer than `min_steps_n` steps, more epochs follow,
    and the last of them may end early. `examples_n` must be at least 1.
    """
    wanted_n = max(epochs * -(-examples_n // batch_size), min_steps_n)
    steps: list[IntArray] = []
    epoch = 0
    while len(steps) < wanted_n:
        order = generator(seed, "tuning", "data order", epoch).permutation(examples_n)
        steps += [order[start : start + batch_size] for start in range(0, examples_n, batch_size)]
        epoch += 1
    return steps[:wanted_n]


def draw_steps_of_tokens(lengths: IntArray, batch_size: int, tokens_n: int, seed: int) -> list[IntArray]:
    """Return the steps of `draw_steps` until their examples have `tokens_n` tokens.

    The last step takes only as many examples as are needed, so the training has less than one example more than `tokens_n`.

    >>> [step.tolist() for step in draw_steps_of_tokens(np.array([5, 5, 5]), 2, 22, seed=0)]
    [[1, 0], [2], [1, 2]]
    """
    epochs_n = -(-tokens_n // int(lengths.sum()))
    steps = draw_steps(len(lengths), batch_size, epochs_n, 0, seed)
    before_n = np.cumsum([0, *(lengths[step].sum() for step in steps)])
    last = int(np.searchsorted(before_n[1:], tokens_n))
    kept_n = int(np.searchsorted(before_n[last] + np.cumsum(lengths[steps[last]]), tokens_n)) + 1
    return [*steps[:last], steps[last][:kept_n]]


def share(positions: IntArray, lengths: IntArray, process: int, processes_n: int) -> IntArray:
    """Return one process's examples of a step. The examples go to processes 0, …, n - 1, n - 1, …, 0 and so on, longest first.

    A single process gets all examples in their given order. If there are fewer examples than processes, some get none.

    >>> share(np.arange(5), np.array([1, 2, 3, 4, 5]), 0, 2)
    array([4, 1, 0])
    """
    if processes_n == 1:
        return positions
    ordered = _longest_first(positions, lengths)
    turn = np.arange(len(ordered)) % (2 * processes_n)
    is_mine: npt.NDArray[np.bool_] = np.minimum(turn, 2 * processes_n - 1 - turn) == process
    return np.asarray(ordered[is_mine])


def lay_out(positions: IntArray, lengths: IntArray, layout: Layout) -> list[list[Row]]:
    """Return the passes of one step. A pass is a list of rows of similar length."""
    sides = np.array([side(layout.switches, int(lengths[position])) for position in positions])
    return [one for each in np.unique(sides)[::-1] for one in _passes(positions[sides == each], lengths, layout)]


def _passes(positions: IntArray, lengths: IntArray, layout: Layout) -> list[list[Row]]:
    rows = pack(positions, lengths, layout.row_tokens_n)
    fill = [int(sum(lengths[position] for position in row)) for row in rows]
    passes: list[list[Row]] = []
    widest = 0
    for place in sorted(range(len(rows)), key=lambda place: (-fill[place], rows[place])):
        if not passes or (len(passes[-1]) + 1) * widest > layout.pass_tokens_n:
            passes.append([])
            widest = fill[place]
        passes[-1].append(rows[place])
    return passes


def pack(positions: IntArray, lengths: IntArray, row_tokens_n: int | None) -> list[Row]:
    """Return a row for each example if `row_tokens_n` is None; else pack rows by first fit, longest first (Johnson 1973)."""
    if row_tokens_n is None:
        return [(int(position),) for position in positions]
    rows: list[list[int]] = []
    free: list[int] = []
    for position in _longest_first(positions, lengths):
        length = int(lengths[position])
        place = next((place for place, room in enumerate(free) if room >= length), len(rows))
        if place == len(rows):
            rows.append([])
            free.append(row_tokens_n)
        rows[place].append(int(position))
        free[place] -= length
    return [tuple(row) for row in rows]


def batch_of(examples: Sequence[Encoded], rows: Sequence[Row], *, is_packed: bool, padding: int) -> Batch:
    """Return the arrays of one pass, padded at the end. The first token of an example and the padding carry no loss.

    Position ids of padding stay below the longest example's length: some models choose frequencies by the largest position.
    """
    width = max(sum(len(examples[position].input_ids) for position in row) for row in rows)
    input_ids = np.full((len(rows), width), padding, np.int64)
    labels = np.full((len(rows), width), IGNORED, np.int64)
    positions = np.zeros((len(rows), width), np.int64)
    longest_n = max(len(examples[position].input_ids) for row in rows for position in row)
    for line, row in enumerate(rows):
        start = 0
        for position in row:
            end = start + len(examples[position].input_ids)
            input_ids[line, start:end] = examples[position].input_ids
            labels[line, start + 1 : end] = examples[position].labels[1:]
            positions[line, start:end] = np.arange(end - start)
            start = end
        positions[line, start:] = np.arange(width - start) % longest_n
    return Batch(input_ids, labels, positions if is_packed else None)


def learnt_tokens_n(examples: Sequence[Encoded], positions: IntArray) -> int:
    return sum(label != IGNORED for position in positions for label in examples[position].labels[1:])


def _longest_first(positions: IntArray, lengths: IntArray) -> IntArray:
    return positions[np.lexsort((positions, -lengths[positions]))]


@dataclass
class Course:
    """The plan of one training and the losses so far. As a sequence, it contains the remaining steps."""

    examples: Sequence[Encoded]  # all examples, sorted by prompt_id
    steps: Sequence[IntArray]  # positions of each step's examples
    layout: Layout
    padding: int  # the token that fills up a row
    seed: int
    first: int = 0  # number of steps that an interrupted run completed
    losses: list[float] = field(default_factory=list)  # loss of every completed step, nats a completion token
    lengths: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = np.array([len(example.input_ids) for example in self.examples])

    def __len__(self) -> int:
        return len(self.steps) - self.first

    def __getitem__(self, place: int) -> IntArray:
        return self.steps[self.first + place]

    def passes(self, step: IntArray, process: int, processes_n: int) -> list[Batch]:
        is_packed = self.layout.row_tokens_n is not None
        mine = share(step, self.lengths, process, processes_n)
        if not len(mine):  # more processes than examples: this process adds a gradient of 0
            batch = batch_of(self.examples, [(int(step[0]),)], is_packed=is_packed, padding=self.padding)
            return [batch._replace(labels=np.full_like(batch.labels, IGNORED))]
        laid = lay_out(mine, self.lengths, self.layout)
        return [batch_of(self.examples, rows, is_packed=is_packed, padding=self.padding) for rows in laid]

    def tokens_n(self, step: IntArray) -> int:
        return int(self.lengths[step].sum())
