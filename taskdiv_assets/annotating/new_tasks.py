"""New tasks for a pool whose found tasks are fixed: what would move, and the replacement of the fixed tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskdiv_assets.annotating import ledger
from taskdiv_assets.annotating.exporting import LOCK
from taskdiv_assets.graph import fixed_tasks
from taskdiv_assets.graph.asset import Settings
from taskdiv_assets.graph.known_answers import newest_annotations
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import copies
from taskdiv_assets.pools.discovery import frozen_tasks, partial
from taskdiv_assets.pools.discovery.agreement import matched
from taskdiv_assets.pools.discovery.frozen_tasks import Fixed, Record
from taskdiv_assets.pools.discovery.labelling import Labelled
from taskdiv_assets.pools.side_files import SideFile
from taskdiv_assets.storage.locks import hold
from taskdiv_assets.storage.store import Store


class Moves(NamedTuple):
    """How many prompts would get another task, if old and new tasks are matched one to one so that few prompts move."""

    bought_n: int  # prompts with a fixed task that were exported or have an imported answer
    bought_moved_n: int  # and that would move
    prompts_n: int  # prompts of the pool with a fixed task
    moved_n: int
    old_n: int  # number of tasks now, among these prompts
    new_n: int  # number of new tasks, among all prompts of the pool


class NewTasks(NamedTuple):
    """New tasks that are not fixed yet."""

    before: Record  # the fixed tasks that they would replace
    fixed: Fixed
    votes: SideFile | None  # of the confidences of voted tasks; None if no prompts voted
    settings: Settings  # of task_labels, for the identity of the new table
    prompts: str  # hash of the prompts of the pool
    moves: Moves

    @property
    def is_change(self) -> bool:
        """False if the same tasks are fixed for the same pool and the same settings."""
        same = (self.before.labels, self.before.prompts) == (frozen_tasks.digest_of(self.fixed.table), self.prompts)
        return not same or bool(fixed_tasks.changes(self.before.settings or {}, self.settings))


def find(lineage: Lineage, settings: Settings, label: Callable[[pa.Table], Labelled]) -> NewTasks:
    """Find the tasks of the stored pool again. Nothing is stored.

    `settings` are those of task_labels in the experiment file. `label` labels a pool by these settings.

    Raises:
        ValueError: no tasks of the experiment are fixed.
        StaleInputError: the pool is missing or stale, or the fixed tasks cannot be read.
    """
    experiment, store = lineage.experiment, lineage.store
    before, old = fixed_tasks.in_force(lineage), fixed_tasks.fixed(lineage)
    if before is None or old is None:
        reason = (
            "no annotations were bought for them, so a run finds tasks again when the pool or `task_labels` changes"
            if experiment.task_labels.guesses_tasks
            else "its `task_labels` find no tasks; `from: discovered` does"
        )
        raise ValueError(f"no found tasks of {experiment.name} are fixed: {reason}")
    pool = lineage.read("raw_pool")
    found = label(pool)
    made = {**settings, fixed_tasks.FROZEN: frozen_tasks.digest_of(found.table)}
    prompts = lineage.fresh(Unit("raw_pool")).parts["prompts"]
    moves = moves_of(old.table, found.table, _bought(store))
    votes = None if found.votes is None else partial.serialised(found.votes)
    notes = found.notes if votes is None else {**found.notes, partial.FILE_NOTE: votes.path}
    return NewTasks(before, Fixed(found.table, notes), votes, made, prompts, moves)


def moves_of(old: pa.Table, new: pa.Table, bought: Collection[str]) -> Moves:
    """Compare two tables task_labels on the prompts that both have. `bought` are the ids of bought prompts."""
    both = old.filter(pc.is_in(old["prompt_id"], value_set=new["prompt_id"].combine_chunks()))
    places = pc.index_in(both["prompt_id"], new["prompt_id"].combine_chunks())
    is_moved = moved(both["task"].to_pylist(), new["task"].take(places).to_pylist())
    is_bought = np.array([one in bought for one in both["prompt_id"].to_pylist()], np.bool_)
    return Moves(
        int(is_bought.sum()),
        int((is_bought & is_moved).sum()),
        both.num_rows,
        int(is_moved.sum()),
        len(both["task"].unique()),
        len(new["task"].unique()),
    )


def moved(old: list[str], new: list[str]) -> NDArray[np.bool_]:  # (n,)
    """Return which prompts are outside the best one-to-one matching of their old and new tasks.

    >>> moved(["a", "a", "b", "b"], ["x", "x", "y", "x"]).tolist()
    [False, False, False, True]
    """
    if not old:
        return np.zeros(0, np.bool_)
    codes, others = (np.unique(tasks, return_inverse=True)[1].astype(np.int64) for tasks in (old, new))
    is_moved: NDArray[np.bool_] = matched(codes, others) != codes
    return is_moved


def replace(store: Store, new: NewTasks) -> None:
    """Store `new` as the fixed tasks of the experiment, in place of the present ones.

    Raise ValueError if other tasks were fixed since `new` was made.
    """
    with hold(store, LOCK):
        now = frozen_tasks.newest(store)
        if now != new.before:
            raise ValueError(f"an export or import fixed other tasks of {store.experiment} meanwhile; try again")
        if new.votes is not None:
            store.put(new.votes.content, *new.votes.path.split("/"))
        frozen_tasks.fix(store, new.fixed, new.prompts, new.settings)


def _bought(store: Store) -> set[str]:
    """Return the ids of prompts that were exported, or have an imported answer."""
    sent = ledger.of_kept_prompts(ledger.entries(store), copies.kept_of(store))
    return ledger.sent_prompt_ids(sent) | {*newest_annotations(store)["prompt_id"].to_pylist()}
