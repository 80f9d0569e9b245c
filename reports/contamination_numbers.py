"""Counts of prompts that are equal or nearly equal to an item of a benchmark: in the pool, and in each strategy's list."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from reports.experiment_view import View
from reports.reader import Reader
from reports.scores import ArmKey

ASSET = "contamination"


class InPool(View):
    """The comparison of the whole pool with the items of one benchmark."""

    items_n: int
    matched_items_n: int
    prompts_n: int  # prompts that match an item
    equal_prompts_n: int  # of these, prompts with the same words as an item
    matches_n: int  # pairs of a prompt and an item
    rows_n: int  # pairs that have a row in the table


class InList(NamedTuple):
    """Counts for one strategy and budget, and one benchmark. They are means over selection seeds."""

    prompts_n: float  # chosen prompts that match an item
    items_n: float  # items that they match; a lower bound if some pairs have no row in the table


class Matches(NamedTuple):
    """The comparison of prompts with the items of all benchmarks."""

    pool: Mapping[str, InPool]  # by benchmark
    lists: Mapping[tuple[str, ArmKey], InList]  # key: (benchmark, (strategy, budget)); only benchmarks with a match


def read_matches(reader: Reader, strategies: Sequence[str], budgets: Sequence[int]) -> Matches | None:
    """Return the matches; None if the pool was not compared with the items, or if the table cannot be used."""
    table = reader.columns(ASSET, None, "benchmark", "task", "item_id", "prompt_id")
    if table is None:
        return None
    table = table.drop_null()  # only a file that another program wrote has nulls
    notes = reader.listing.tables[ASSET, None].footer.notes
    try:
        pool = TypeAdapter(dict[str, InPool]).validate_python(notes.get("benchmarks"))
    except ValidationError:
        reader.problems.append(f"{ASSET} cannot be used: its notes are not those of this version; it is left out")
        return None
    if not table.num_rows:
        return Matches(pool, {})
    text = {name: table[name].cast(pa.string()).combine_chunks() for name in table.column_names}
    benchmark, prompt = text["benchmark"].dictionary_encode(), text["prompt_id"].dictionary_encode()
    item = pc.binary_join_element_wise(text["benchmark"], text["task"], text["item_id"], "\0").dictionary_encode()
    names = benchmark.dictionary.to_pylist()
    pairs = _Pairs(*(one.indices.to_numpy() for one in (benchmark, prompt, item)))
    lists: dict[tuple[str, ArmKey], InList] = {}
    wanted = set(product(strategies, budgets))
    for arm, chosen in reader.cells("allocation", "selection_seed", "prompt_id", wanted=wanted):
        places = pc.index_in(chosen["prompt_id"].cast(pa.string()), value_set=prompt.dictionary)
        found = _means(pairs, len(names), chosen["selection_seed"].to_numpy(), pc.fill_null(places, -1).to_numpy())
        lists |= {(name, arm): one for name, one in zip(names, found, strict=True)}
    return Matches(pool, lists)


class _Pairs(NamedTuple):
    """The rows of the table, with an integer code instead of each name or id."""

    benchmark: np.ndarray  # (rows,)
    prompt: np.ndarray  # (rows,)
    item: np.ndarray  # (rows,)


def _means(
    pairs: _Pairs,
    benchmarks_n: int,
    seeds: np.ndarray,  # (chosen,) selection seed of each chosen prompt
    places: np.ndarray,  # (chosen,) code of each chosen prompt; -1 if it matches no item
) -> list[InList]:
    """Return for each benchmark the counts of one strategy's list at one budget."""
    every = np.unique(seeds)
    totals = np.zeros((benchmarks_n, 2))
    for seed in every:
        is_chosen = np.isin(pairs.prompt, places[seeds == seed])
        for code in range(benchmarks_n):
            own = is_chosen & (pairs.benchmark == code)
            totals[code] += len(np.unique(pairs.prompt[own])), len(np.unique(pairs.item[own]))
    return [InList(*row) for row in (totals / max(1, len(every))).tolist()]
