"""Examples on the page: prompts that one strategy or all strategies chose, and the models' answers to a few items.

Fixed rules select the examples. The first prompts by rank are shown. Items are grouped by which models are right; a hash of
task and id orders the items of a group, and the first ones are shown.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.cell_keys import cell_key
from reports.items.paired_items import BASE_NAME, PairedItem, PairedItems
from reports.reader import Reader

PROMPTS_EACH_N = 3
ALL = "all of them"


class PromptExample(NamedTuple):
    """A chosen prompt."""

    chosen_by: str  # a strategy, or ALL
    task: str
    prompt: str


class Said(NamedTuple):
    """The answer of one model to an item."""

    model: str
    text: str
    score: float


class OutputExample(NamedTuple):
    """One benchmark item with the models' answers."""

    benchmark: str
    task: str
    kind: str  # which models were right
    question: str  # the prompt without its worked examples
    target: str
    said: tuple[Said, ...]


class Examples(NamedTuple):
    """All examples on the page, with their budgets."""

    prompts: tuple[PromptExample, ...] = ()
    prompts_budget_n: int | None = None
    outputs: tuple[OutputExample, ...] = ()
    outputs_budget_n: int | None = None


def read_examples(
    reader: Reader, strategies: Sequence[str], budget_n: int | None, paired: PairedItems | None
) -> Examples:
    """Return prompts chosen at `budget_n`, and outputs from the items that both compared strategies answered."""
    prompts = () if budget_n is None else _prompts(reader, strategies, budget_n)
    return Examples(prompts, budget_n, _outputs(paired), paired.budget_n if paired else None)


def _prompts(reader: Reader, strategies: Sequence[str], budget_n: int) -> tuple[PromptExample, ...]:
    """Return for each strategy the first prompts that no other strategy chose, then the first prompts that all strategies chose.

    Each strategy's lowest selection seed is used. "First" is by rank; for the prompts of all strategies, by the first strategy's
    rank. If fewer than two strategies have chosen prompts, the result is empty.
    """
    chosen: dict[str, pa.Table] = {}
    for name in strategies:
        table = reader.columns("allocation", cell_key(budget_n, name), "selection_seed", "rank", "prompt_id", "task")
        if table is not None and table.num_rows:
            first = table.filter(pc.equal(table["selection_seed"], pc.min(table["selection_seed"]))).sort_by("rank")
            chosen[name] = pa.table({key: first[key].cast(pa.string()) for key in ("prompt_id", "task")})
    if len(chosen) < 2:
        return ()
    times = pc.value_counts(pa.concat_tables(chosen.values())["prompt_id"])
    picked = {name: _first(table, times, 1) for name, table in chosen.items()}
    picked[ALL] = _first(next(iter(chosen.values())), times, len(chosen))
    texts = _texts(reader, {prompt_id for rows in picked.values() for prompt_id, _ in rows})
    return tuple(
        PromptExample(name, task, texts[prompt_id])
        for name, rows in picked.items()
        for prompt_id, task in rows
        if prompt_id in texts
    )


def _first(table: pa.Table, times: pa.StructArray, times_n: int) -> list[tuple[str, str]]:
    """Return id and task of the first prompts of `table` that occur `times_n` times in all orders together."""
    wanted = times.field("values").filter(pc.equal(times.field("counts"), times_n))
    rows = table.filter(pc.is_in(table["prompt_id"], value_set=wanted)).slice(0, PROMPTS_EACH_N)
    return list(zip(rows["prompt_id"].to_pylist(), rows["task"].to_pylist(), strict=True))


def _texts(reader: Reader, prompt_ids: set[str]) -> dict[str, str]:
    table = reader.columns("raw_pool", None, "prompt_id", "prompt")
    if table is None or not prompt_ids:
        return {}
    found = table.filter(pc.is_in(table["prompt_id"], value_set=pa.array(sorted(prompt_ids))))
    return dict(zip(found["prompt_id"].to_pylist(), found["prompt"].to_pylist(), strict=True))


def _outputs(paired: PairedItems | None) -> tuple[OutputExample, ...]:
    """Return items with the answers of both strategies under one seed and, if stored, of the base model."""
    return () if paired is None else tuple(one for place in range(len(paired.benchmarks)) for one in _of(paired, place))


def _of(paired: PairedItems, benchmark: int) -> Iterator[OutputExample]:
    own = [one for one in paired.items if one.benchmark == benchmark]
    of = paired.benchmarks[benchmark]
    base = [
        place for place, name in enumerate(paired.models) if name == BASE_NAME and any(one.said[place] for one in own)
    ]
    places = list(dict.fromkeys((*base, *paired.compared)))
    names = {place: paired.models[place] for place in places}
    names |= {place: f"{name} (seed {of.seed})" for place, name in names.items() if name != BASE_NAME}
    for kind, item in _chosen(own, places, names):
        said = tuple(Said(names[place], item.said[place] or "", item.scores[place] or 0.0) for place in places)
        if all(item.said[place] is not None for place in places):
            yield OutputExample(of.name, item.task, kind, item.question, item.target, said)


def _chosen(
    items: Sequence[PairedItem], places: Sequence[int], names: Mapping[int, str]
) -> Iterator[tuple[str, PairedItem]]:
    """Yield the first items of each pattern by hash, with the pattern in words."""
    last, before = places[-1], places[max(0, len(places) - 2)]
    kinds: list[tuple[str, int, Callable[[PairedItem], bool]]] = [
        (f"{names[last]} right, {names[before]} wrong", 2, lambda one: one.is_right(last) and not one.is_right(before)),
        (f"{names[before]} right, {names[last]} wrong", 2, lambda one: one.is_right(before) and not one.is_right(last)),
        ("all wrong", 1, lambda one: not any(map(one.is_right, places))),
        ("all right", 1, lambda one: all(map(one.is_right, places))),
    ]
    ordered = sorted(
        (one for one in items if None not in [one.scores[place] for place in places]), key=lambda one: one.digest
    )
    for kind, most_n, fits in kinds:
        yield from [(kind, one) for one in ordered if fits(one)][:most_n]
