"""The prompts of one or several lists, or the held-out items, each prompt once, with the columns that annotators see.

The rows of lists come from the tables `allocation`, `annotation_batch` and `raw_pool`. Further columns come from the user's file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.annotating.layout import Layout, Row, check_extras, own_id_column
from taskdiv_assets.annotating.ledger import SentList
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.pools import held_items
from taskdiv_assets.pools.read import extra_columns
from taskdiv_assets.storage.store import Store

Seeds = int | Sequence[int] | Literal["all"] | None


class ListName(NamedTuple):
    """One list: a cell and a selection seed."""

    cell: Cell
    selection_seed: int


class Gathered(NamedTuple):
    """The lists of an export, and the prompts to send."""

    lists: tuple[
        SentList, ...
    ]  # empty for held-out items; with the prompts to send now and the prompts that were sent before
    batch: list[
        dict[str, object]
    ]  # prompt_id, task, rank and prompt to send now, each prompt once, in the order of the file
    out_n: int  # prompts that were sent before and have no answer yet
    answered_n: int  # prompts that have an answer


def names(lineage: Lineage, cells: Sequence[Cell], seeds: Seeds) -> list[ListName]:
    """Return the lists of one or more cells, for `seeds`. `seeds` may be None if each cell has only one list, as in a campaign.

    Raises:
        ValueError: a cell has several lists and `seeds` is None, or a cell has no list for one of the seeds.
        StaleInputError: a list is missing or stale.
    """
    _check_made(lineage, cells)
    found = {cell: lineage.cell_selection_seeds(cell) for cell in cells}
    if seeds is None and any(len(there) > 1 for there in found.values()):
        listed = ", ".join(map(str, sorted({seed for one in found.values() for seed in one})))
        raise ValueError(
            f"{lineage.experiment.name} is a study with one list per seed ({listed}); choose one of them with --seed, or "
            "use --seed all for one file with each prompt once. A campaign has one list"
        )
    if seeds is None or seeds == "all":
        return [ListName(cell, seed) for cell, there in found.items() for seed in there]
    wanted = [seeds] if isinstance(seeds, int) else list(dict.fromkeys(seeds))
    for cell, there in found.items():
        if lacking := [seed for seed in wanted if seed not in there]:
            expected = ", ".join(map(str, there))
            raise ValueError(f"{cell.key} has no list for seed {lacking[0]}; expected one of {expected}")
    return [ListName(cell, seed) for cell in found for seed in wanted]


def gather(store: Store, of: Sequence[ListName], went_out: Collection[str]) -> Gathered:
    """Return the lists named in `of`, and the prompts of these lists that need an answer and were not sent before.

    The prompts are sorted by rank, so the first prompts of every list come first. The rank of a prompt in several lists is the
    smallest of its ranks there. `went_out` contains the ids of the prompts that were sent before.
    """
    lists: list[SentList] = []
    to_answer: dict[str, dict[str, object]] = {}
    everything: set[str] = set()
    for name in of:
        list_ids = [str(row["prompt_id"]) for row in _of_seed(store, "allocation", name)]
        batch = _of_seed(store, "annotation_batch", name)
        for row in batch:
            prompt_id = str(row["prompt_id"])
            to_answer[prompt_id] = min(to_answer.get(prompt_id, row), row, key=_rank)
        now = tuple(str(row["prompt_id"]) for row in batch if row["prompt_id"] not in went_out)
        before = tuple(prompt_id for prompt_id in list_ids if prompt_id in went_out)
        lists.append(SentList(name.cell, name.selection_seed, now, before))
        everything.update(list_ids)
    rows = sorted((row for prompt_id, row in to_answer.items() if prompt_id not in went_out), key=_rank)
    return Gathered(tuple(lists), rows, len(to_answer) - len(rows), len(everything) - len(to_answer))


def gather_held_out(lineage: Lineage, went_out: Collection[str]) -> Gathered:
    """Return the held-out items that need an answer and were not sent before (`went_out`), in the order in which they were drawn.

    Raise StaleInputError if the stored pool is missing or stale.
    """
    lineage.fresh(Unit("raw_pool"))
    items = held_items.in_drawn_order(lineage.held_out_items)
    rows = [{**row, "rank": rank} for rank, row in enumerate(items.to_pylist()) if row["response"] is None]
    batch = [row for row in rows if row["prompt_id"] not in went_out]
    return Gathered((), batch, len(rows) - len(batch), items.num_rows - len(rows))


def layout_of(experiment: Experiment, store: Store, extras: Sequence[str] = ()) -> Layout:
    """Return the columns of an experiment's lists; raise ValueError if one of the further columns `extras` cannot be exported."""
    source_ids = store.read_table("raw_pool").table["source_id"]
    columns = experiment.pool.columns
    has_own = source_ids.null_count < len(source_ids)
    own_id = own_id_column(columns.id if columns else None) if has_own else None
    return Layout(own_id, experiment.labels_from != "none", check_extras(extras, own_id))


def rows(experiment: Experiment, source: pa.Table, batch: Sequence[dict[str, object]], layout: Layout) -> list[Row]:
    """Return the rows that annotators see, made from the prompts in `batch` (see `Gathered`). U+0000 is removed from all texts.

    `source` has the columns prompt_id and source_id of the pool or of the held-out items. If the layout has further columns,
    raise ValueError if the user's file lacks one of these columns or a prompt of the list.
    """
    prompt_ids = [str(one["prompt_id"]) for one in batch]
    pool = source.select(["prompt_id", "source_id"])
    pool = pool.filter(pc.is_in(pool["prompt_id"], pa.array(prompt_ids, pa.string())))
    own_ids = dict(zip(pool["prompt_id"].to_pylist(), pool["source_id"].to_pylist(), strict=True))
    extras = extra_columns(experiment.pool, layout.extras, prompt_ids) if layout.extras else {}
    found: list[Row] = []
    for one in batch:
        prompt_id = str(one["prompt_id"])
        row = Row(
            prompt_id=prompt_id,
            task=_shown(str(one["task"])),
            rank=int(str(one["rank"])),
            prompt=_shown(str(one["prompt"])),
            instructions=experiment.annotation.instructions,
        )
        if layout.own_id is not None:
            row["own_id"] = (own := own_ids[prompt_id]) and _shown(own)
        if layout.extras:
            row["extras"] = [value and _shown(value) for value in extras[prompt_id]]
        found.append(row)
    return found


def _check_made(lineage: Lineage, cells: Sequence[Cell]) -> None:
    states = {cell: lineage.state(Unit("annotation_batch", cell.key)) for cell in cells}
    lacking = {cell: state for cell, state in states.items() if state.status != "fresh"}
    if not lacking:
        return
    listed = ", ".join(cell.key for cell in lacking)
    subject = f"the list of {listed} is" if len(lacking) == 1 else f"the lists of {listed} are"
    stale = next((state.reason for state in lacking.values() if state.status == "stale"), "")
    status = f"out of date ({stale})" if stale else "not made yet"
    made = sorted({cell.strategy for cell in cells if cell not in lacking})
    others = f". To export the lists that are made, use --strategy: {', '.join(made)}" if made else ""
    command = f"`taskdiv run {lineage.experiment.name} --until annotation_batch`"
    raise StaleInputError(f"{subject} {status}; {command} makes the lists and trains nothing{others}")


def _of_seed(store: Store, asset: str, name: ListName) -> list[dict[str, object]]:
    table = store.read_table(asset, name.cell.key).table
    return [row for row in table.to_pylist() if row["selection_seed"] == name.selection_seed]


def _rank(row: dict[str, object]) -> int:
    return int(str(row["rank"]))


def _shown(text: str) -> str:
    """Remove U+0000 from a text. Spreadsheet programs cannot store this character, and many programs end a text there."""
    return text.replace("\0", "")
