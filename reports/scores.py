"""Stored item scores as arrays (seeds, items): one set for each benchmark and metric. All arms of a set have the same items."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from reports.statistics import Arm
from reports.variance import FloatArray, IntArray

COLUMNS = ("training_seed", "benchmark", "task", "item_id", "metric", "score")
BASE = ("base", 0)  # the arm without an adapter
ArmKey = tuple[str, int]  # strategy, budget


class ScoreSet(NamedTuple):
    """The scores of all arms on one benchmark by one metric."""

    benchmark: str
    metric: str
    tasks: tuple[str, ...]  # (T,) names, sorted
    task_of_item: IntArray  # (I,) position in `tasks`
    arms: dict[ArmKey, Arm]  # the base model has the key BASE
    items_left_out_n: int  # items that are scored in some arms only
    notes: tuple[str, ...]
    label: str = ""  # name of the metric on the page; the results table uses `metric`
    joint_models_n: int = 0  # number of models that were estimated together (see `judged`); else 0
    item_ids: tuple[str, ...] = ()  # (I,)

    @property
    def base(self) -> Arm | None:
        return self.arms.get(BASE)

    @property
    def task_sizes(self) -> IntArray:
        """Number of items of each task: (T,)."""
        return np.bincount(self.task_of_item, minlength=len(self.tasks)).astype(np.int64)


class _Rows(NamedTuple):
    arm: ArmKey
    seed: IntArray  # (R,) −1 for the base
    group: IntArray  # benchmark and metric
    task: IntArray
    item: IntArray
    score: FloatArray


class _Codes:
    """Integer codes of strings. A string has the same code in all tables."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._last: tuple[pa.Array, IntArray] | None = None

    @property
    def names(self) -> list[str]:
        return list(self._of)

    def encode(self, column: pa.ChunkedArray) -> IntArray:
        is_encoded = pa.types.is_dictionary(column.type)
        encoded = (column if is_encoded else column.cast(pa.string()).dictionary_encode()).combine_chunks()
        if self._last is None or not encoded.dictionary.equals(self._last[0]):  # equal dictionaries are looked up once
            codes = [self._of.setdefault(str(name), len(self._of)) for name in encoded.dictionary.to_pylist()]
            self._last = encoded.dictionary, np.array(codes, dtype=np.int64)
        table = self._last[1]
        indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return np.asarray(table[indices] if len(indices) else indices, dtype=np.int64)


def score_sets(tables: Iterable[tuple[ArmKey, pa.Table]], order: Sequence[str] = ()) -> tuple[ScoreSet, ...]:
    """Return the score sets of all benchmarks and metrics with finite scores.

    Benchmarks in `order` come first, in that order. The others, and the metrics of a benchmark, are sorted by name.
    """
    benchmarks, metrics, tasks, items = _Codes(), _Codes(), _Codes(), _Codes()
    rows = []
    for arm, table in tables:
        seeds = table["training_seed"].fill_null(-1).to_numpy().astype(np.int64)
        group = benchmarks.encode(table["benchmark"]) * 1_000_000 + metrics.encode(table["metric"])
        score = table["score"].to_numpy().astype(np.float64)
        rows.append(_Rows(arm, seeds, group, tasks.encode(table["task"]), items.encode(table["item_id"]), score))
    groups = sorted({int(code) for row in rows for code in np.unique(row.group)})
    named = [(benchmarks.names[code // 1_000_000], metrics.names[code % 1_000_000], code) for code in groups]
    named.sort(key=lambda entry: (order.index(entry[0]) if entry[0] in order else len(order), entry[0], entry[1]))
    names = tasks.names, items.names
    built = (_one_set(benchmark, metric, code, rows, *names) for benchmark, metric, code in named)
    return tuple(one for one in built if one is not None)


def _one_set(
    benchmark: str, metric: str, code: int, rows: Sequence[_Rows], task_names: list[str], item_names: list[str]
) -> ScoreSet | None:
    pieces: dict[ArmKey, tuple[IntArray, IntArray, FloatArray]] = {}
    for row in rows:
        chosen = (row.group == code) & np.isfinite(row.score)
        if chosen.any():
            pieces[row.arm] = (row.seed[chosen], (row.task[chosen] << 32) | row.item[chosen], row.score[chosen])
    if not pieces:
        return None
    universe = np.unique(np.concatenate([items for _, items, _ in pieces.values()]))
    filled = {arm: _fill(*piece, universe) for arm, piece in pieces.items()}
    kept, poor, notes = _common_items(filled)
    names = [task_names[task] for task in np.unique(universe[kept] >> 32)]
    order = sorted(names)
    position = {task_names.index(name): order.index(name) for name in names}
    of_item = np.array([position[int(task)] for task in universe[kept] >> 32], dtype=np.int64)
    by_task = np.argsort(of_item, kind="stable")  # so that `variance.Strata` does not have to sort items
    columns, of_item = np.flatnonzero(kept)[by_task], of_item[by_task]
    arms = {
        arm: Arm(scores[:, columns], () if arm == BASE else tuple(int(seed) for seed in seeds))
        for arm, (seeds, scores) in filled.items()
        if arm not in poor and np.isfinite(scores[:, kept]).all()
    }
    ids = tuple(item_names[code] for code in (universe[columns] & 0xFFFFFFFF).tolist())
    left_out_n = int((~kept).sum())
    return ScoreSet(benchmark, metric, tuple(order), of_item, arms, left_out_n, notes, label=metric, item_ids=ids)


def _fill(seeds: IntArray, items: IntArray, scores: FloatArray, universe: IntArray) -> tuple[IntArray, FloatArray]:
    """Return the distinct seeds (S,) and an array of scores (S, I). A score that is not stored is NaN.

    `seeds`, `items` and `scores`, (R,), are the stored rows. `universe`, (I,), contains all items, sorted.
    """
    known = np.unique(seeds)
    filled = np.full((len(known), len(universe)), np.nan)
    filled[np.searchsorted(known, seeds), np.searchsorted(universe, items)] = scores
    return known, filled


def _common_items(
    filled: dict[ArmKey, tuple[IntArray, FloatArray]],
) -> tuple[np.ndarray, Collection[ArmKey], tuple[str, ...]]:
    """Return a mask of the items that all remaining arms have, the arms that are left out, and notes on these arms.

    An arm has an item if all seeds of the arm have a score for the item. An arm is left out if it has fewer than half as many
    items as the arm with the most items. If the remaining arms have no item in common, the mask has the items of the arm with
    the most items.
    """
    complete = {arm: np.isfinite(scores).all(axis=0) for arm, (_, scores) in filled.items()}
    most = max(int(mask.sum()) for mask in complete.values())
    poor = sorted(arm for arm, mask in complete.items() if int(mask.sum()) * 2 < most or not mask.any())
    notes = [
        f"{strategy} at {budget:,} labels is left out: only {int(complete[strategy, budget].sum()):,} of {most:,} "
        "items are scored for all its seeds"
        for strategy, budget in poor
    ]
    kept = np.logical_and.reduce([mask for arm, mask in complete.items() if arm not in poor] or [np.zeros(1, bool)])
    if not kept.any():
        kept = max(complete.values(), key=lambda mask: int(mask.sum()))
        notes.append("no item is scored in all arms: only the arms that share the items of the fullest one are shown")
    return kept, poor, tuple(notes)
