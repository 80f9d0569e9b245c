"""Reader of the file of a user's own order (`own_orders.OwnOrder`).

All rows contain the same kind of id: prompt ids, or own ids (those of the source). The kind that matches more rows is used.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.pools.sources import read_file
from taskdiv_assets.pools.values import Options, Source, require
from taskdiv_assets.pools.visible import is_blank

ID_COLUMNS = ("prompt_id", "id", "source_id")  # in order of preference; the id column of the pool's source comes second


class Placed(NamedTuple):
    """The numbers that a strategy sorts by."""

    values: NDArray[np.float64]  # (n,) scores, or positions from 0; n for a prompt without a position
    ranked_n: int  # prompts of the pool that the file names: the depth of the order
    left_out_n: int  # rows of the file whose prompts are not in the pool


def read_order(
    order: OwnOrder,
    pool: pa.Table,  # raw_pool: prompt_id, source_id
    own_id: str | None = None,  # name of the column that source_id was read from
    left_out_n: int | None = 0,  # rows of the source that the pool left out; None if unknown
    kept: Mapping[str, str] = MappingProxyType({}),  # the kept prompt id of each dropped copy, see `pools.copies`
) -> Placed:
    """Return a score or a position for each prompt of the pool.

    A file of scores must have a score for every prompt. A file of an order may contain fewer prompts. Rows with unknown ids are
    ignored if there are at most `left_out_n` such rows, or if `left_out_n` is None.

    Raises:
        ValueError: the file cannot be used, a row has no id, an id occurs twice, no id or too few ids are in the pool, a prompt
            has no score, or a score is not a finite number.
    """
    nested = frozenset([order.score_column] if order.scores else [])
    chosen: list[str] = []

    def choose(names: Sequence[str], place: str) -> list[str]:
        chosen.extend(_choose(order, own_id, names, place))
        return chosen

    source = read_file(order.path, choose, Options(nested=nested, is_pool=False))
    id_column = chosen[0]
    keys = _ids(order, source, id_column)
    place = places_of(keys, pool)
    row_of = {prompt_id: row for row, prompt_id in enumerate(pool["prompt_id"].to_pylist())} if kept else {}
    place = {copy: row_of[prompt_id] for copy, prompt_id in kept.items() if prompt_id in row_of} | place
    firsts: dict[int, int] = {}  # row of the pool -> row of the file; the first row among a prompt and its copies
    for i, key in enumerate(keys):
        if key in place:
            firsts.setdefault(place[key], i)
    unknown = [key for key in keys if key not in place]
    if unknown and (not firsts or (left_out_n is not None and len(unknown) > left_out_n)):
        raise ValueError(
            f"{_of(order)}: {len(unknown):,} of {len(keys):,} ids in column {id_column!r} are not in the pool, the first is "
            f"{unknown[0]!r}; expected prompt ids, or the pool's own ids (`id` of `pool.columns`)"
        )
    if order.scores is None:
        values = np.full(pool.num_rows, float(pool.num_rows))
        values[list(firsts)] = np.arange(len(firsts))
    else:
        values = _scores(order, source.columns[order.score_column], firsts, pool)
    return Placed(values, len(firsts), len(unknown))


def _of(order: OwnOrder) -> str:
    return f"strategy {order.name!r}, {order.path}"


def _choose(order: OwnOrder, own_id: str | None, names: Sequence[str], place: str) -> list[str]:
    looked_for = list(dict.fromkeys([ID_COLUMNS[0], *([own_id] if own_id else []), *ID_COLUMNS[1:]]))
    found = order.id or next((name for name in looked_for if name in names), None)
    if found is None:
        raise ValueError(
            f"{_of(order)} has no column of ids: looked for {', '.join(map(repr, looked_for))}, its columns "
            f"are {', '.join(map(repr, names))}; name it, as in `id: ticket`"
        )
    chosen = [found, *([order.score_column] if order.scores is not None else [])]
    require(names, chosen, place)
    return chosen


def _ids(order: OwnOrder, source: Source, column: str) -> list[str]:
    found = source.columns[column]
    blank_n = sum(is_blank(value) for value in found)
    if blank_n:
        raise ValueError(
            f"{_of(order)}: {blank_n:,} of {len(found):,} rows have no {column}; expected one in every row"
        )
    keys = [(value or "").strip() for value in found]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        what = "more than one score" if order.scores else "more than one place"
        raise ValueError(
            f"{_of(order)} gives {len(twice):,} prompts {what}, the first is {twice[0]!r}; expected one row per prompt"
        )
    return keys


def places_of(keys: Sequence[str], pool: pa.Table) -> dict[str, int]:
    """Return a map from id to row of the pool. The ids are prompt ids, or own ids if these match more keys."""
    by_prompt, by_own = (
        {one: row for row, one in enumerate(pool[column].to_pylist()) if one is not None}
        for column in ("prompt_id", "source_id")
    )
    return by_own if sum(key in by_own for key in keys) > sum(key in by_prompt for key in keys) else by_prompt


def _scores(
    order: OwnOrder,
    texts: Sequence[str | None],
    rows: Mapping[int, int],  # row of the pool -> row of the file
    pool: pa.Table,
) -> NDArray[np.float64]:
    values = np.full(pool.num_rows, math.nan)
    wrong: list[str] = []
    for row, i in rows.items():
        if text := (texts[i] or "").strip().strip('"'):  # a decimal number from Parquet is JSON text
            values[row] = _number(text)
            if not math.isfinite(values[row]):
                wrong.append(text)
    if wrong:
        raise ValueError(
            f"{_of(order)}: {len(wrong):,} of {len(rows):,} scores are not finite numbers, the first is {wrong[0][:40]!r}; "
            "expected numbers such as 0.25 that fit into 64 bits"
        )
    without = np.isnan(values)
    if without.any():
        first = pool["prompt_id"][int(np.flatnonzero(without)[0])]
        raise ValueError(
            f"{_of(order)} has no {order.score_column} of {int(without.sum()):,} of {pool.num_rows:,} prompts, the first is "
            f"{first}; expected a score of every prompt, or use `order_from` for a list of some of them"
        )
    return values


def _number(text: str) -> float:
    """Return the number that `text` contains; NaN for other text, and for a number that a 64-bit float would change."""
    try:
        number = math.nan if "_" in text else float(text)  # Python reads 1_000 as a thousand
        is_lost = number == 0 and re.search("[1-9]", text.lower().partition("e")[0]) is not None  # 1e-400
        is_moved = re.fullmatch(r"[+-]?[0-9]+", text) is not None and int(text) != number  # 9007199254740993
        return math.nan if is_lost or is_moved else number
    except ValueError:
        return math.nan
