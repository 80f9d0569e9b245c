"""The items that the two compared strategies both answered: their scores by every strategy at one budget, and their texts.

The scores are those of the report's statistics (`scores.ScoreSet`). The order of the items is fixed: from each pattern of right
and wrong the first `FIRST_N` by hash, then an equal share of each pattern. So the first items of the order show every pattern.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_contracts.cell_keys import cell_key
from reports.items.answer_texts import Item, Texts, read_texts
from reports.judged import WIN_RATE, asked_notes, scores_folders
from reports.reader import Reader
from reports.scores import BASE, ArmKey, ScoreSet
from reports.statistics import Arm
from reports.variance import FloatArray

FIRST_N = 20  # items of each pattern that come before all others
READ_N = 12_000  # items whose texts are read
ANSWERS_N = 20_000  # answers of all models to all items; above this number, only those of the base and the compared two are read
RIGHT = 0.5  # an answer is right if its score is above this
BASE_NAME = BASE[0]


class Compared(NamedTuple):
    """Two strategies whose answers are shown side by side.

    `benchmark` and `metric` are those of the primary comparison. They are empty if these strategies are not the primary
    comparison.
    """

    strategy: str
    reference: str
    benchmark: str = ""
    metric: str = ""


class PairedItem(NamedTuple):
    """One item. The tuples have one value for each of `PairedItems.models`; it is None if it is not stored."""

    benchmark: int  # position in `PairedItems.benchmarks`
    task: str
    item_id: str
    digest: str  # hash of task and item_id, 64 hex digits
    scores: tuple[float | None, ...]  # under the seed that is shown
    means: tuple[float | None, ...]  # over all seeds of the model
    question: str
    target: str
    prompt_hash: str
    said: tuple[str | None, ...]

    def is_right(self, model: int) -> bool:
        return (self.scores[model] or 0.0) > RIGHT


class PairedBenchmark(NamedTuple):
    """What the items of one benchmark have in common."""

    name: str
    label: str  # name of the metric
    seed: int  # the seed that is shown: the first that both strategies have
    seeds_n: tuple[int, ...]  # number of seeds of each of `PairedItems.models`; 0 if the model was not asked


class PairedItems(NamedTuple):
    """The items of all benchmarks, in the order of this module."""

    budget_n: int
    models: tuple[str, ...]  # the base model, if it is scored, then the strategies in the order of the experiment file
    compared: tuple[int, int]  # positions of the reference and the strategy in `models`
    benchmarks: tuple[PairedBenchmark, ...]
    items: tuple[PairedItem, ...]  # at most READ_N
    all_n: int  # number of items that both strategies answered
    has_all_answers: bool  # whether the answers of all models were read; else those of the base and the compared two


class _Scored(NamedTuple):
    """The scores of one benchmark's items, and the places of their texts."""

    benchmark: PairedBenchmark
    metric: str
    items: list[Item]  # (I,)
    digests: list[str]  # (I,)
    scores: FloatArray  # (M, I) NaN where a model has no score
    means: FloatArray  # (M, I)
    folders: dict[str, str]  # folder of scores of each model
    questions: str


def read_paired(
    reader: Reader, strategies: Sequence[str], budgets: Sequence[int], sets: Sequence[ScoreSet], compared: Compared
) -> PairedItems | None:
    """Return the items at the largest of `budgets` at which both compared strategies have scores.

    Return None if there is no such budget, or if no benchmark has stored answers of both under a common seed. A benchmark whose
    answers cannot be read is left out, and a sentence on it is added to the reader's `problems`.
    """
    stored = {arm for _, arm in reader.keys("benchmark_scores")}
    both = [n for n in budgets if {(compared.reference, n), (compared.strategy, n)} <= stored]
    if not both:
        return None
    budget_n = max(both)
    scored = {arm for one in sets for arm in one.arms}
    strategies = [name for name in dict.fromkeys((*strategies, compared.strategy)) if (name, budget_n) in scored]
    models = (*([BASE_NAME] if BASE in scored else []), *strategies)
    if not {compared.reference, compared.strategy} <= {*models}:
        return None
    reference, strategy = models.index(compared.reference), models.index(compared.strategy)
    if reference == strategy:
        reference = max(0, strategy - 1)  # the base, with which a single strategy is compared
    pair = reference, strategy
    units = {name: ("benchmark_scores", cell_key(budget_n, name)) for name in strategies}
    notes = {name: asked_notes(reader.listing.tables.get(unit)) for name, unit in units.items()}
    notes |= {BASE_NAME: asked_notes(reader.listing.tables.get(("base_scores", None)))}
    names = [name for name in notes[compared.strategy] if any(one.benchmark == name for one in sets)]
    found = [_scored(_chosen(sets, name, compared), models, pair, budget_n, notes) for name in names]
    return _with_texts(reader, budget_n, models, pair, [one for one in found if one is not None])


def _chosen(sets: Sequence[ScoreSet], benchmark: str, compared: Compared) -> ScoreSet:
    """Return the benchmark's scores by one metric: the win rate, that of the primary comparison, or the first by name."""
    own = {one.metric: one for one in sets if one.benchmark == benchmark}
    wanted = (WIN_RATE, compared.metric if compared.benchmark == benchmark else "", *own)
    return next(own[metric] for metric in wanted if metric in own)


def _scored(
    one: ScoreSet,
    models: Sequence[str],
    pair: tuple[int, int],
    budget_n: int,
    notes: Mapping[str, Mapping[str, Mapping[str, object]]],
) -> _Scored | None:
    own = {name: notes[name].get(one.benchmark, {}) for name in models}
    folders = {name: scores_folders(note) for name, note in own.items()}
    both = [name for name in (models[place] for place in pair) if name != BASE_NAME]
    seeds = set.intersection(*(set(folders[name]) for name in both))
    if not seeds:
        return None
    seed = min(seeds, key=lambda text: (len(text), text))
    keys: list[ArmKey] = [BASE if name == BASE_NAME else (name, budget_n) for name in models]
    rows = [_of_model(one.arms.get(key), seed, len(one.item_ids)) for key in keys]
    if any(rows[place] is None for place in pair):
        return None
    empty = np.full(len(one.item_ids), np.nan)
    scores, means = (np.stack([empty if row is None else row[side] for row in rows]) for side in (0, 1))
    seeds_n = tuple(len(one.arms[key].scores) if key in one.arms else 0 for key in keys)
    items = [(one.tasks[task], item) for task, item in zip(one.task_of_item.tolist(), one.item_ids, strict=True)]
    digests = [hashlib.sha256("\0".join(item).encode()).hexdigest() for item in items]
    stored = {name: of.get(BASE_NAME if name == BASE_NAME else seed) for name, of in folders.items()}
    return _Scored(
        PairedBenchmark(one.benchmark, one.label, int(seed), seeds_n),
        one.metric,
        items,
        digests,
        scores,
        means,
        {name: folder for name, folder in stored.items() if folder},
        str(own[models[pair[1]]].get("questions", "")),
    )


def _of_model(arm: Arm | None, seed: str, items_n: int) -> tuple[FloatArray, FloatArray] | None:
    """Return a model's scores under `seed` and their means over all its seeds, (I,) each; NaN if it has no such seed."""
    if arm is None:
        return None
    names = [str(own) for own in arm.seeds]
    at_seed = arm.scores[names.index(seed) if names else 0] if not names or seed in names else np.full(items_n, np.nan)
    return at_seed, arm.scores.mean(axis=0)


def _with_texts(
    reader: Reader, budget_n: int, models: tuple[str, ...], pair: tuple[int, int], scored: Sequence[_Scored]
) -> PairedItems | None:
    all_n = sum(len(one.items) for one in scored)
    has_all = all_n * len(models) <= ANSWERS_N
    shown = {name for place, name in enumerate(models) if has_all or place in pair or name == BASE_NAME}
    order = _order(scored, models, pair)[:READ_N]
    read: dict[int, dict[int, PairedItem]] = {}
    for group, one in enumerate(scored):
        places = [place for own, place in order if own == group]
        folders = {name: folder for name, folder in one.folders.items() if name in shown}
        try:
            texts = read_texts(reader, folders, one.questions, [one.items[place] for place in places], one.metric)
        except (OSError, KeyError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
            said = f"{type(error).__name__}: {str(error)[:120]}"
            reader.problems.append(f"outputs of {one.benchmark.name} cannot be shown ({said})")
        else:
            read[group] = dict(zip(places, _items(len(read), one, models, places, texts), strict=True))
    if not read:
        return None
    items = tuple(read[group][place] for group, place in order if group in read)
    kept = [scored[group] for group in read]
    all_n = sum(len(one.items) for one in kept)
    return PairedItems(budget_n, models, pair, tuple(one.benchmark for one in kept), items, all_n, has_all)


def _order(scored: Sequence[_Scored], models: Sequence[str], pair: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (benchmark, item) positions in the order of this module. A pattern is that of the base and the compared two."""
    ranked = []
    for group, one in enumerate(scored):
        sides = [place for place, name in enumerate(models) if place in pair or name == BASE_NAME]
        pattern = (one.scores[sides] > RIGHT).T @ (1 << np.arange(len(sides)))
        sizes, seen = np.bincount(pattern), np.zeros(1 << len(sides), np.int64)
        for place in sorted(range(len(one.items)), key=one.digests.__getitem__):
            own = pattern[place]
            share = max(0, int(seen[own]) + 1 - FIRST_N) / int(sizes[own])
            ranked.append((share, int(seen[own]), one.digests[place], group, place))
            seen[own] += 1
    return [(group, place) for *_, group, place in sorted(ranked)]


def _items(
    benchmark: int, one: _Scored, models: Sequence[str], places: Sequence[int], texts: Texts
) -> Iterable[PairedItem]:
    scores, means = (_known(values[:, places]) for values in (one.scores, one.means))
    missing: list[str | None] = [None] * len(places)
    said = list(zip(*(texts.said.get(name, missing) for name in models), strict=True))
    for row, place in enumerate(places):
        yield PairedItem(
            benchmark,
            *one.items[place],
            one.digests[place],
            scores[row],
            means[row],
            texts.question[row] or "",
            texts.target[row] or "",
            texts.prompt_hash[row] or "",
            said[row],
        )


def _known(values: FloatArray) -> list[tuple[float | None, ...]]:
    """Return the columns of (M, K) as K tuples with three decimals; None for NaN."""
    rows = np.round(values.T, 3).tolist()
    return [tuple(None if value != value else value for value in row) for row in rows]
