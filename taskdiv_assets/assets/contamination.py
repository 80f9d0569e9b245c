"""Asset `contamination`: the prompts of the pool that are equal or nearly equal to an item of a benchmark.

A model that is trained on such a prompt may know the item's answer, so the score of the item may be too high.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from taskdiv_assets.graph import markdown
from taskdiv_assets.graph.asset import WITHOUT_BENCHMARK, Asset, Needs, Settings
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import pool_ids
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.pools import overlap
from taskdiv_assets.services.asked_items import AskedItem, asked_items

# A pair has no row in the table if its prompt and its item already have this many rows each (of the item's benchmark). Without
# this bound, a pool of 50,000 prompts from one template, with 1,000 items from the same template, would have 50 million rows.
ROWS_N = 20
KEY = ("benchmark", "task", "item_id", "prompt_id")


def make_contamination(work: Work) -> Product:
    pool, items = work.read("raw_pool"), asked_items(work)
    found = compared(pool["prompt"].to_pylist(), items)
    ids = pool["prompt_id"].to_pylist()
    rows = [(*items[match.item][:3], ids[match.text], match.is_exact) for match in found.rows]
    columns = zip(*rows, strict=True) if rows else [()] * 5
    types = [pa.string()] * 4 + [pa.bool_()]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    table = pa.Table.from_arrays(arrays, names=[*KEY, "is_exact"])
    notes = {"pool_n": pool.num_rows, "benchmarks": {name: tally.notes() for name, tally in found.tallies.items()}}
    return Product(table.sort_by([(name, "ascending") for name in KEY]), notes)


@dataclass
class Tally:
    """Counts for one benchmark over all matches, also those without a row."""

    items_n: int = 0
    matches_n: int = 0
    rows_n: int = 0
    prompts: set[int] = field(default_factory=set)  # positions of the prompts that match
    equal_prompts: set[int] = field(default_factory=set)  # positions of the prompts that are equal to an item
    items: set[int] = field(default_factory=set)  # positions of the items that match

    def add(self, match: overlap.Match) -> None:
        self.matches_n += 1
        self.prompts.add(match.text)
        self.items.add(match.item)
        if match.is_exact:
            self.equal_prompts.add(match.text)

    def notes(self) -> dict[str, int]:
        return {
            "items_n": self.items_n,
            "matched_items_n": len(self.items),
            "prompts_n": len(self.prompts),
            "equal_prompts_n": len(self.equal_prompts),
            "matches_n": self.matches_n,
            "rows_n": self.rows_n,
        }


class Compared(NamedTuple):
    """The result of a comparison of prompts with items."""

    rows: list[overlap.Match]  # the matches that have a row in the table
    tallies: dict[str, Tally]  # by benchmark


def compared(prompts: Sequence[str], items: Sequence[AskedItem]) -> Compared:
    """Find the prompts that match an item. All matches are counted; `ROWS_N` limits which of them have a row."""
    tallies = {item.benchmark: Tally() for item in items}
    for item in items:
        tallies[item.benchmark].items_n += 1
    rows: list[overlap.Match] = []
    of_prompt: Counter[tuple[int, str]] = Counter()
    of_item: Counter[int] = Counter()
    for match in overlap.matches(prompts, [item.text for item in items]):
        benchmark = items[match.item].benchmark
        tallies[benchmark].add(match)
        if of_prompt[match.text, benchmark] < ROWS_N or of_item[match.item] < ROWS_N:
            of_prompt[match.text, benchmark] += 1
            of_item[match.item] += 1
            tallies[benchmark].rows_n += 1
            rows.append(match)
    return Compared(rows, tallies)


def table_of_matches(notes: Mapping[str, Any]) -> str:
    """Return a Markdown table for the UI: for each benchmark, how many prompts and items match."""
    names = ("items_n", "matched_items_n", "prompts_n", "equal_prompts_n")
    rows = [
        (markdown.text(benchmark), *(f"{counts[name]:,}" for name in names))
        for benchmark, counts in notes["benchmarks"].items()
    ]
    return markdown.table(
        ("benchmark", "items", "items that match", "prompts that match", "of these with the same words"), rows
    )


def contamination_recipe(inputs: Inputs) -> Settings:
    inputs.part("raw_pool", "prompts", *(["held_out"] if inputs.experiment.held_out is not None else []))
    return inputs.lineage.scoring.settings_of_items()


ASSET = Asset(
    name="contamination",
    make=make_contamination,
    reads=("raw_pool",),
    recipe=contamination_recipe,
    description="Prompts of the pool that are equal or nearly equal to an item of a benchmark. A model that is trained on such a "
    "prompt may know the item's answer.",
    needs=Needs(1, 8, 0, "word 8-grams of all items; the prompts of the pool, read once"),
    unless=(WITHOUT_BENCHMARK,),
    parameters=pool_ids,
    summary=table_of_matches,
)
