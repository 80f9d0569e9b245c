"""Tasks of prompts that nobody labelled, by the votes of the nearest labelled prompts in the view `words`.

Rows lie on a grid, so similarities are exact, and the result depends neither on the order of the rows nor on threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.pools.discovery.found_tasks import FITTED_MAX, STREAM
from taskdiv_assets.pools.discovery.word_views import GRID, Rows, words
from taskdiv_assets.selection.streams import keyed_hash

VERSION = 1  # part of the identity of voted tasks; increase it when a change of the code changes them
NEIGHBOURS_N = 5  # the number of voters for each prompt
VOTERS_MAX = 20_000  # the labelled prompts that may vote, chosen by hash; less than `_PLACES`
JUDGED_MAX = 2_000  # the labelled prompts on which the accuracy is measured, chosen by hash
_PLACES = 2**15
_BLOCK = 4_000_000  # similarities that are computed at a time


class Votes(NamedTuple):
    """The voted tasks of the prompts without a task, and how often votes are right."""

    tasks: list[str | None]  # one for each prompt; None for a labelled prompt
    confidence: NDArray[np.float64]  # (n,) share of the voters for the winner, in (0, 1]; NaN for a labelled prompt
    accuracy: (
        float | None
    )  # share of the judged prompts for whose given task the other given ones vote; None without any
    judged_n: int


def voted(
    prompts: Sequence[str],
    prompt_ids: Sequence[str],
    tasks: Sequence[str | None],  # None for a prompt without a task; at least one prompt must have a task
    is_given: Sequence[bool]
    | None = None,  # False for a task that comes from votes or was found; by default, all are given
) -> Votes:
    """Let labelled prompts vote on the tasks of the others.

    A task that is not given votes, too, but it is not judged and judges no other. If there are too many voters, given ones come
    first.

    The task with most votes among the `NEIGHBOURS_N` nearest labelled prompts wins; on a tie, the one with the nearest voter.
    Similarity is the cosine in the view `words`, fitted on all prompts. A tie goes to the voter with the smaller hash of its id.
    """
    from threadpoolctl import threadpool_limits

    numbers = np.array([int(prompt_id, 16) for prompt_id in prompt_ids], np.uint64)
    order = np.argsort(keyed_hash(0, STREAM, numbers), kind="stable")
    with threadpool_limits(1):
        rows = words([prompts[i] for i in order], min(len(order), FITTED_MAX))
    is_labelled = np.array([tasks[i] is not None for i in order])
    is_sure = is_labelled if is_given is None else is_labelled & np.array([is_given[i] for i in order])
    others = np.flatnonzero(is_labelled & ~is_sure)
    sure = np.flatnonzero(is_sure)[:VOTERS_MAX]
    voters = np.sort(np.concatenate([sure, others[: VOTERS_MAX - len(sure)]]))
    names, codes = np.unique([str(tasks[order[i]]) for i in voters], return_inverse=True)
    asking = np.flatnonzero(~is_labelled)
    winners, shares = _count(rows[asking], rows[voters], codes)
    judges = codes[np.isin(voters, sure)]
    judged_n = min(JUDGED_MAX, len(sure)) if len(sure) > 1 else 0
    again = _count(rows[sure[:judged_n]], rows[sure], judges, is_without_self=True)[0] if judged_n else judges[:0]
    found: list[str | None] = [None] * len(order)
    confidence = np.full(len(order), np.nan)
    for place, winner, share in zip(order[asking].tolist(), winners.tolist(), shares.tolist(), strict=True):
        found[place], confidence[place] = str(names[winner]), share
    accuracy = float(np.mean(again == judges[:judged_n])) if judged_n else None
    return Votes(found, confidence, accuracy, judged_n)


def _count(
    rows: Rows,  # (m, d) of prompts that get a task
    voters: Rows,  # (v, d)
    codes: Codes,  # (v,) task of each voter
    *,
    is_without_self: bool = False,  # True if row i of `rows` is row i of `voters`, which does not vote on itself
) -> tuple[Codes, NDArray[np.float64]]:
    """Return the task that wins the votes on each row, and the share of the votes that it gets."""
    voters_n = min(NEIGHBOURS_N, len(voters) - is_without_self)
    winners, shares = np.zeros(len(rows), np.int64), np.zeros(len(rows))
    block_n = max(1, _BLOCK // len(voters))
    for start in range(0, len(rows), block_n):
        block = rows[start : start + block_n].astype(np.float64) @ voters.T.astype(np.float64)
        # One whole number for each pair, small for a near voter: the similarity, a multiple of 1 / GRID², then the voter's place.
        keys = np.arange(len(voters)) - np.rint(block * GRID**2).astype(np.int64) * _PLACES
        if is_without_self:
            here = np.arange(len(block))
            keys[here, start + here] = np.iinfo(np.int64).max
        near = np.argpartition(keys, voters_n - 1, axis=1)[:, :voters_n]
        near = np.take_along_axis(near, np.argsort(np.take_along_axis(keys, near, axis=1), axis=1), axis=1)
        cast = codes[near]  # (block, voters_n) tasks, the nearest voter first
        counts = np.sum(cast[:, :, None] == cast[:, None, :], axis=2)
        best = np.argmax(counts, axis=1)  # the first of the largest
        here = np.arange(len(block))
        winners[start : start + len(block)] = cast[here, best]
        shares[start : start + len(block)] = counts[here, best] / voters_n
    return winners, shares
