"""The curve over the number of tasks: stability and sizes of the groups with fewer and with more tasks than the chosen number.

The curve chooses nothing. It shows what another number would change, and it is measured on at most `SAMPLE_N` prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from taskdiv_assets.experiment.pool_settings import FOUND_TASKS_MAX
from taskdiv_assets.pools.discovery.agreement import Agreement
from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.pools.discovery.word_views import Rows

# Returns the group of each row with a number of tasks, its group under another seed, and the agreement.
Group: TypeAlias = Callable[[Rows, int], tuple[Codes, Codes, Agreement]]
FACTORS = (0.25, 0.5, 2, 4)  # other numbers of tasks, divided by the chosen number
OTHERS_MIN = 2  # smallest of the other numbers; the largest is that of the experiment file
PROMPTS_MIN = 10  # prompts of a task on average; with fewer, most groups are tiny and are merged
SAMPLE_N = 6_000  # so the curve takes at most about as long as the search, also for pools of short prompts


class Point(NamedTuple):
    """The groups with one number of tasks."""

    tasks_n: int  # looked for
    found_n: int  # found, because tiny groups are merged
    between_seeds: float  # adjusted Rand index, as in `Agreement`
    between_halves: float
    median_n: int  # prompts of the measured sample in the median task
    smallest_n: int  # prompts of the sample in the smallest task


class Curve(NamedTuple):
    """Points by number of tasks, which were measured on the first `measured_n` of `prompts_n` prompts in random order."""

    prompts_n: int
    measured_n: int
    points: list[Point]


def other_numbers(tasks_n: int, measured_n: int) -> list[int]:
    """Return the other numbers of tasks to measure on `measured_n` prompts, about 1/4, 1/2, 2 and 4 times the chosen number.

    >>> other_numbers(50, 1_000), other_numbers(3, 1_000), other_numbers(5, 40), other_numbers(2, 9)
    ([12, 25, 100], [2, 6, 12], [2], [])
    """
    numbers = {round(tasks_n * factor) for factor in FACTORS} - {tasks_n}
    return sorted(n for n in numbers if OTHERS_MIN <= n <= min(FOUND_TASKS_MAX, measured_n // PROMPTS_MIN))


def curve_of(
    rows: Rows,  # in random order; the sample is the first ones
    tasks_n: int,  # the chosen number
    codes: Codes,  # (n,) the groups with the chosen number
    agreement: Agreement,  # of `codes`
    group: Group,
) -> Curve:
    """Return the curve around the chosen number of tasks. If the sample is the whole pool, `codes` are not made again."""
    sample = rows[:SAMPLE_N]
    points = []
    for number in sorted([tasks_n, *other_numbers(tasks_n, len(sample))]):
        is_known = number == tasks_n and len(sample) == len(rows)
        own, _, measured = (codes, None, agreement) if is_known else group(sample, number)
        points.append(_point(number, own, measured))
    return Curve(len(rows), len(sample), points)


def _point(tasks_n: int, codes: Codes, agreement: Agreement) -> Point:
    sizes: Sequence[int] = np.sort(np.bincount(codes)).tolist()
    seeds, halves = round(agreement.between_seeds, 4), round(agreement.between_halves, 4)
    return Point(tasks_n, len(sizes), seeds, halves, sizes[(len(sizes) - 1) // 2], sizes[0])
