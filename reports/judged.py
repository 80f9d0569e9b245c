"""The estimates of win rates at equal length, and their names on the page.

A stored estimate uses the verdicts on one model alone. If it uses AlpacaEval's published difficulties, it is computed as on the
leaderboard, and the report keeps it. Otherwise, the report estimates all judged models together if possible (`length_adjusted`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.cell_keys import cell_key
from data_contracts.stored import StoredTable
from data_contracts.table_paths import LENGTHS_FILE
from reports import length_adjusted
from reports.reader import Reader
from reports.scores import BASE, COLUMNS, ArmKey, ScoreSet
from reports.statistics import Arm

BENCHMARK = "alpaca_eval"
WIN_RATE, AT_EQUAL_LENGTH = "win_rate", "length_controlled_win_rate"
LENGTHS = "characters more than the reference"  # a metric in no stored table; `scores` matches it to the same items
OURS, PUBLISHED = "length-adjusted win rate (ours)", "length-controlled win rate"


def with_lengths(reader: Reader, tables: Iterable[tuple[ArmKey, pa.Table]]) -> Iterator[tuple[ArmKey, pa.Table]]:
    """Yield each table of scores and, if its judged items have stored lengths, a second table of their differences in length."""
    for arm, table in tables:
        yield arm, table
        extra = _length_rows(reader, arm, table)
        if extra is not None:
            yield arm, extra


def adjusted(sets: Sequence[ScoreSet], *, is_published: bool) -> tuple[ScoreSet, ...]:
    """Set `label` of the win rates at equal length, estimate all models together if possible, and drop the score set of lengths.

    `sets` come from the tables of `with_lengths`. If AlpacaEval's difficulties were used (`is_published`), the stored estimates
    are kept.
    """
    label = PUBLISHED if is_published else OURS
    named = [one._replace(label=label) if _is(one, AT_EQUAL_LENGTH) else one for one in sets if one.metric != LENGTHS]
    lengths = next((one for one in sets if _is(one, LENGTHS)), None)
    plain = next((one for one in sets if _is(one, WIN_RATE)), None)
    if is_published or lengths is None or plain is None:
        return tuple(named)
    return tuple(_together(one, plain, lengths) if _is(one, AT_EQUAL_LENGTH) else one for one in named)


def _is(one: ScoreSet, metric: str) -> bool:
    return (one.benchmark, one.metric) == (BENCHMARK, metric)


def _together(alone: ScoreSet, plain: ScoreSet, lengths: ScoreSet) -> ScoreSet:
    """Return `alone` with joint estimates of the models that can be fitted.

    Return `alone` unchanged if fewer than two models can be fitted, data are missing or the fit fails.
    """
    arms = list(alone.arms)
    shapes = [alone.arms[arm].scores.shape for arm in arms]
    for other in (plain, lengths):
        if [other.arms[arm].scores.shape if arm in other.arms else None for arm in arms] != shapes:
            return alone
    preferences, differences, values = (
        np.concatenate([one.arms[arm].scores for arm in arms]) for one in (plain, lengths, alone)
    )
    fits = length_adjusted.can_be_fitted(preferences, differences)
    if fits.sum() < 2:
        return alone
    try:
        values[fits] = length_adjusted.joint_pseudo_values(preferences[fits], differences[fits])
    except ArithmeticError:
        return alone
    ends = np.cumsum([seeds_n for seeds_n, _ in shapes])[:-1]
    rows = zip(arms, np.split(values, ends), strict=True)
    joint = {arm: Arm(part, alone.arms[arm].seeds) for arm, part in rows}
    return alone._replace(arms=joint, joint_models_n=int(fits.sum()))


def _length_rows(reader: Reader, arm: ArmKey, table: pa.Table) -> pa.Table | None:
    """Return the differences in length of a table's judged items; None if there are no such items or a length is missing."""
    own = table.filter(pc.and_(pc.equal(table["benchmark"], BENCHMARK), pc.equal(table["metric"], AT_EQUAL_LENGTH)))
    if not own.num_rows:
        return None
    asset, key = ("base_scores", None) if arm == BASE else ("benchmark_scores", cell_key(arm[1], arm[0]))
    folders = scores_folders(asked_notes(reader.listing.tables.get((asset, key))).get(BENCHMARK, {}))
    known: dict[tuple[int | None, str], float] = {}
    for seed in set(own["training_seed"].to_pylist()):
        stored = _stored_lengths(reader, folders.get("base" if seed is None else str(seed)))
        known |= {(seed, item): difference for item, difference in stored.items()}
    wanted = list(zip(own["training_seed"].to_pylist(), own["item_id"].to_pylist(), strict=True))
    if not all(one in known for one in wanted):
        return None
    columns = {name: own[name] for name in COLUMNS}
    columns["metric"] = pa.array([LENGTHS] * own.num_rows, pa.string())
    columns["score"] = pa.array([known[one] for one in wanted], pa.float64())
    return pa.table(columns)


def asked_notes(table: StoredTable | None) -> dict[str, Mapping[str, Any]]:
    """Return the valid notes `asked` in the footer of a table of scores, by benchmark; empty if the table is not stored."""
    asked = table.footer.notes.get("asked") if table else None
    pairs = asked.items() if isinstance(asked, Mapping) else ()
    return {str(name): note for name, note in pairs if isinstance(note, Mapping)}


def scores_folders(note: Mapping[str, Any]) -> dict[str, str]:
    """Return the folder of scores of each seed ("base" for the base model). `note` is one value of `asked_notes`."""
    scores = note.get("scores")
    return {str(seed): str(folder) for seed, folder in scores.items()} if isinstance(scores, Mapping) else {}


def _stored_lengths(reader: Reader, folder: str | None) -> dict[str, float]:
    """Return by item how many characters longer the model's output is than the reference's; empty if no lengths can be read."""
    if not folder:
        return {}
    try:
        path = reader.files.join("folders", folder, LENGTHS_FILE)
        table = reader.files.columns(path, ["item_id", "model_chars", "reference_chars"])
    except (OSError, KeyError, pa.ArrowException):
        return {}
    differences = pc.subtract(table["model_chars"], table["reference_chars"])
    return dict(zip(table["item_id"].to_pylist(), map(float, differences.to_pylist()), strict=True))
