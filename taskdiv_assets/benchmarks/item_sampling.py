"""Draw random samples of a benchmark's items, and compute the standard error that a sample causes.

Means give tasks equal weights (see `reports.statistics`). So each task gets the same number of items (±1); a task with fewer
items gets all of them. If tasks are about equally noisy, this gives the smallest standard error of a mean.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from taskdiv_assets.experiment.benchmark_settings import Extent

LEAST_ITEMS = 2  # the smallest sample of a task: the noise of one item cannot be estimated
HALF = 0.5  # the largest standard deviation of a score that is 0 or 1


def items_by_task(extent: Extent, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the number of items of each task that `extent` selects.

    Raise ValueError if `extent.sample` is too small for two items per task (one item for a task that has only one).
    """
    if extent.limit is not None:
        return {task: min(size, extent.limit) for task, size in sizes.items()}
    if extent.sample is None:
        return dict(sizes)
    least_n = sum(min(size, LEAST_ITEMS) for size in sizes.values())
    if extent.sample < least_n:
        raise ValueError(
            f"`sample: {extent.sample}` is too small for {len(sizes)} tasks; expected at least {least_n}, two items a task"
        )
    return equal_shares(sizes, extent.sample)


def equal_shares(sizes: Mapping[str, int], total_n: int) -> dict[str, int]:
    """Share a total equally among tasks. No task gets more than its size. If shares are not whole, the first names get one more.

    >>> equal_shares({"a": 3, "b": 100, "c": 100}, 20)
    {'a': 3, 'b': 9, 'c': 8}
    """
    left_n, open_tasks = min(total_n, sum(sizes.values())), sorted(sizes)
    for task in sorted(sizes, key=lambda task: sizes[task]):
        if sizes[task] * len(open_tasks) <= left_n:  # all its items are asked
            open_tasks.remove(task)
            left_n -= sizes[task]
    level, more_n = divmod(left_n, max(1, len(open_tasks)))
    return {
        task: level + (open_tasks.index(task) < more_n) if task in open_tasks else size for task, size in sizes.items()
    }


def drawn(contents: Sequence[str], items_n: int) -> list[int]:
    """Return the ascending positions of the `items_n` items whose contents have the smallest hashes.

    The order of the source has no effect on the sample.
    """
    seen: dict[str, int] = {}
    keys = []
    for place, content in enumerate(contents):
        seen[content] = seen.get(content, 0) + 1
        keys.append((hashlib.sha256(f"sample\0{seen[content]}\0{content}".encode()).hexdigest(), place))
    return sorted(place for _, place in sorted(keys)[:items_n])


def worst_standard_error(asked: Mapping[str, int], sizes: Mapping[str, int]) -> float:
    """Return the standard error that sampling causes in a mean over tasks, if half of the answers are right.

    >>> worst_standard_error({"a": 25, "b": 25}, {"a": 250, "b": 250}), worst_standard_error({"a": 3}, {"a": 3})
    (0.067..., 0.0)
    """
    return _standard_error(dict.fromkeys(sizes, HALF), asked, sizes)


def standard_error(scores: Mapping[str, Sequence[float]], sizes: Mapping[str, int]) -> float | None:
    """Return the standard error that sampling causes in a mean over tasks.

    Return None if a task has fewer than two scores, but more items than scores. The formula is for a stratified sample without
    replacement. Source: Cochran, Sampling Techniques, 3rd edition, 5.3. That all tasks have the same weight is our choice.
    """
    if any(len(values) < min(LEAST_ITEMS, sizes[task]) for task, values in scores.items()):
        return None
    deviations = {task: float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for task, values in scores.items()}
    return _standard_error(deviations, {task: len(values) for task, values in scores.items()}, sizes)


def _standard_error(deviations: Mapping[str, float], asked: Mapping[str, int], sizes: Mapping[str, int]) -> float:
    tasks = [task for task in deviations if sizes[task]]  # a task without items has no mean
    variance = sum(deviations[task] ** 2 / asked[task] * (1 - asked[task] / sizes[task]) for task in tasks)
    return math.sqrt(variance) / max(1, len(tasks))
