"""The discovery of tasks: the number of tasks, the groups of similar prompts, and what is known about each group."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from taskdiv_assets.pools.discovery import clusters, count_curve, naming
from taskdiv_assets.pools.discovery.agreement import Agreement, measured
from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.pools.discovery.count_curve import Curve
from taskdiv_assets.pools.discovery.vector_views import Vectors, rows_of_views
from taskdiv_assets.pools.discovery.word_views import Rows
from taskdiv_assets.selection.streams import keyed_hash, stream_seed

VERSION = 1  # part of the identity of found tasks; increase it when a change of the code changes the tasks
STREAM = "pool/discovery"
FITTED_MAX = 20_000  # prompts that the view and the groups are made from; the other prompts join the nearest group
# The rule for the number of tasks. Found tasks help where the budget for each task is small, and tiny tasks are noise.
PROMPTS_A_TASK, PICKS_A_TASK = 20, 2
TASKS_MIN, TASKS_MAX = 2, 500
# What decided the number of tasks: the number of prompts, the smallest budget, a bound of the rule, or the experiment file.
Bound: TypeAlias = Literal["prompts", "budget", "most", "fewest", "given"]


class FoundTask(NamedTuple):
    """One found task."""

    name: str
    prompts_n: int
    terms: tuple[str, ...]
    central: tuple[int, ...]  # positions of its most central prompts, the most central first
    place: tuple[float, float]  # on a map where near tasks are similar; no unit


class Found(NamedTuple):
    """The found tasks of a pool, the largest first, and the task of each prompt."""

    codes: Codes  # (n,) position in `tasks`
    tasks: list[FoundTask]
    agreement: Agreement
    again: Codes  # (n,) group of each prompt under another seed of k-means; the numbers have no relation to `tasks`
    curve: Curve | None = None  # other numbers of tasks; None if they were not measured


def tasks_by_rule(prompts_n: int, budget_n: int) -> int:
    """Return the number of tasks to look for in a pool. `budget_n` is the smallest budget of the experiment.

    On average, a task has at least `PROMPTS_A_TASK` prompts, and gets at least `PICKS_A_TASK` picks at this budget, unless there
    would be fewer than `TASKS_MIN` tasks. There are at most `TASKS_MAX` tasks.

    >>> tasks_by_rule(1_000, 200), tasks_by_rule(1_000, 40), tasks_by_rule(10, 5), tasks_by_rule(10**6, 10**5)
    (50, 20, 2, 500)
    """
    return max(TASKS_MIN, min(_limits(prompts_n, budget_n).values()))


def bound_of_rule(prompts_n: int, budget_n: int) -> Bound:
    """Return what decides the number of `tasks_by_rule`. If the pool and the budget give the same number, it is the pool.

    >>> bound_of_rule(1_000, 200), bound_of_rule(1_000, 40), bound_of_rule(10, 5), bound_of_rule(10**6, 10**5)
    ('prompts', 'budget', 'fewest', 'most')
    """
    limits = _limits(prompts_n, budget_n)
    bound = min(limits, key=limits.__getitem__)
    return "fewest" if limits[bound] < TASKS_MIN else bound


def _limits(prompts_n: int, budget_n: int) -> dict[Bound, int]:
    return {"prompts": prompts_n // PROMPTS_A_TASK, "budget": budget_n // PICKS_A_TASK, "most": TASKS_MAX}


def discover(
    prompts: Sequence[str],
    prompt_ids: Sequence[str],  # 16 hex digits each; they decide the order of the work and the sample
    tasks_n: int,
    taken: Collection[str] = (),
    *,
    with_words: bool = True,  # whether the view `words` is used
    vectors: Sequence[Vectors] = (),  # (n, d) each; of other views, which are mixed with the view `words` if it is used
    with_curve: bool = False,  # whether other numbers of tasks are measured; this takes about as long as the search
) -> Found:
    """Group a pool into at most `tasks_n` tasks. Every prompt gets one task; names in `taken` are not given to a task.

    The same prompts with the same ids and vectors get the same tasks, in any order and with any number of threads.
    """
    from threadpoolctl import threadpool_limits

    if not prompts:
        return Found(np.zeros(0, np.int64), [], Agreement(1.0, 1.0, 0.0), np.zeros(0, np.int64))
    numbers = np.array([int(prompt_id, 16) for prompt_id in prompt_ids], np.uint64)
    order = np.argsort(keyed_hash(0, STREAM, numbers), kind="stable")
    texts = [prompts[i] for i in order]
    with threadpool_limits(1):
        rows = rows_of_views(texts, order, min(len(texts), FITTED_MAX), with_words=with_words, vectors=vectors)
        codes, again, agreement = _grouped(rows, tasks_n)
        tasks = _described(texts, rows, codes, taken)
        curve = count_curve.curve_of(rows, tasks_n, codes, agreement, _grouped) if with_curve else None
    place = np.argsort(order)
    tasks = [one._replace(central=tuple(int(order[i]) for i in one.central)) for one in tasks]
    return Found(codes[place], tasks, agreement, again[place], curve)


def _grouped(rows: Rows, tasks_n: int) -> tuple[Codes, Codes, Agreement]:
    """Return the group of each row (0 is the largest group), its group under another seed, and the agreement.

    The agreement is computed from the first `FITTED_MAX` rows.
    """
    fitted = rows[:FITTED_MAX]
    first, second = (stream_seed(0, STREAM, "k-means", repetition) for repetition in (0, 1))
    codes = clusters.grouped(fitted, rows, tasks_n, first)
    sizes = np.bincount(codes)
    place = np.empty_like(sizes)
    place[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    codes = place[codes].astype(np.int64)
    again = clusters.grouped(fitted, rows, tasks_n, second)
    return codes, again, measured(fitted, codes[:FITTED_MAX], again[:FITTED_MAX], tasks_n, second)


def _described(texts: Sequence[str], rows: Rows, codes: Codes, taken: Collection[str]) -> list[FoundTask]:
    terms = naming.terms_of(texts, codes)
    names, central, places = naming.names_of(terms, taken), naming.central(rows, codes), naming.places(rows, codes)
    sizes = np.bincount(codes).tolist()
    return [
        FoundTask(name, size, own, tuple(middle), (round(float(x), 4), round(float(y), 4)))
        for name, size, own, middle, (x, y) in zip(names, sizes, terms, central, places, strict=True)
    ]
