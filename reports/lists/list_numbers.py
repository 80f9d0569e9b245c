"""Counts of chosen, sent, answered and missing prompts, for each list and for all lists. Totals count each prompt once."""

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reports.lists import sent_out as ledger
from reports.lists.sent_out import Answers, Export
from reports.reader import Reader
from reports.variance import IntArray

FIRST_N = 10  # prompts of a list on the page
PROMPT_LENGTH_N = 400  # characters of a prompt on the page


class Counts(NamedTuple):
    """Numbers of prompts in one list or in all lists together. chosen = answered + known + missing."""

    chosen_n: int
    sent_n: int  # sent out by an export
    answered_n: int  # answer came from an import
    known_n: int  # answer is in the pool, and not in an import
    missing_n: int  # without an answer
    waiting_n: int  # missing and sent out


class ListState(NamedTuple):
    """The state of one strategy's list at one budget. In a study, the lists of all selection seeds are counted together."""

    strategy: str
    budget_n: int
    seeds: tuple[int, ...]
    counts: Counts


class FirstPrompt(NamedTuple):
    """One of the first prompts of a list."""

    source_id: str  # empty if the source has no ids
    task: str
    prompt: str


class Lists(NamedTuple):
    """All data of the page's sections on lists."""

    states: tuple[ListState, ...]  # in the order of strategies, then smallest budget first
    total: Counts
    exports: tuple[Export, ...]
    answers: Answers
    firsts: Mapping[str, tuple[FirstPrompt, ...]]  # by strategy: beginning of its largest list; empty if scored
    lengths: Mapping[str, IntArray]  # characters by strategy ("" is the pool); empty if scored or if tasks are compared

    def of(self, strategy: str) -> list[ListState]:
        """Return the lists of one strategy, the smallest budget first."""
        return [state for state in self.states if state.strategy == strategy]

    @property
    def strategies(self) -> list[str]:
        return list(dict.fromkeys(state.strategy for state in self.states))

    @property
    def budgets(self) -> list[int]:
        return sorted({state.budget_n for state in self.states})


class _Chosen(NamedTuple):
    strategy: str
    budget_n: int
    seeds: tuple[int, ...]
    ids: tuple[str, ...]
    tasks: tuple[str, ...]


def read_lists(
    reader: Reader, strategies: Sequence[str], budgets: Collection[int], *, is_scored: bool, has_tasks: bool
) -> Lists:
    """Read lists, exports and imported answers. `is_scored` leaves out first prompts and lengths, `has_tasks` only lengths."""
    chosen = _chosen(reader, strategies, budgets)
    exports, answers = ledger.read_exports(reader), ledger.read_answers(reader)
    sent = frozenset[str]().union(*(export.prompt_ids for export in exports))
    every = frozenset(prompt_id for one in chosen for prompt_id in one.ids)
    own = _known(reader, every) - answers.prompt_ids
    states = tuple(
        ListState(one.strategy, one.budget_n, one.seeds, _count(frozenset(one.ids), sent, answers.prompt_ids, own))
        for one in chosen
    )
    largest = {one.strategy: one for one in chosen}  # the largest budget comes last
    firsts = {} if is_scored else _firsts(reader, largest)
    lengths = {} if is_scored or has_tasks else _lengths(reader, largest)
    return Lists(states, _count(every, sent, answers.prompt_ids, own), exports, answers, firsts, lengths)


def _chosen(reader: Reader, strategies: Sequence[str], budgets: Collection[int]) -> list[_Chosen]:
    found, wanted = [], set(product(strategies, budgets))
    for cell, table in reader.cells("allocation", "selection_seed", "rank", "prompt_id", "task", wanted=wanted):
        if table.num_rows:
            rows = table.sort_by([("selection_seed", "ascending"), ("rank", "ascending")])
            seeds = tuple(sorted(set(rows["selection_seed"].to_pylist())))
            ids, tasks = (tuple(map(str, rows[name].to_pylist())) for name in ("prompt_id", "task"))
            found.append(_Chosen(*cell, seeds, ids, tasks))
    return sorted(found, key=lambda one: (strategies.index(one.strategy), one.budget_n))


def _count(ids: frozenset[str], sent: frozenset[str], answered: frozenset[str], known: frozenset[str]) -> Counts:
    missing = ids - answered - known
    return Counts(len(ids), len(ids & sent), len(ids & answered), len(ids & known), len(missing), len(missing & sent))


def _known(reader: Reader, ids: Collection[str]) -> frozenset[str]:
    pool = reader.columns("raw_pool", None, "prompt_id", "response")
    if pool is None or not ids:
        return frozenset()
    pool = pool.filter(pool["response"].is_valid())
    return frozenset(pool["prompt_id"].cast(pa.string()).to_pylist()) & frozenset(ids)


def _firsts(reader: Reader, lists: Mapping[str, _Chosen]) -> dict[str, tuple[FirstPrompt, ...]]:
    heads = {name: list(zip(one.ids, one.tasks, strict=True))[:FIRST_N] for name, one in lists.items()}
    wanted = sorted({prompt_id for rows in heads.values() for prompt_id, _ in rows})
    pool = reader.columns("raw_pool", None, "prompt_id", "source_id", "prompt") if wanted else None
    if pool is None:
        return {}
    pool = pool.filter(pc.is_in(pool["prompt_id"].cast(pa.string()), value_set=pa.array(wanted, pa.string())))
    texts = {str(row["prompt_id"]): (row["source_id"], row["prompt"]) for row in pool.to_pylist()}
    return {
        name: tuple(_first(*texts[prompt_id], task) for prompt_id, task in rows if prompt_id in texts)
        for name, rows in heads.items()
    }


def _first(source_id: object, prompt: object, task: str) -> FirstPrompt:
    text = str(prompt)
    cut = text if len(text) <= PROMPT_LENGTH_N else f"{text[: PROMPT_LENGTH_N - 1]}…"
    return FirstPrompt("" if source_id is None else str(source_id)[:PROMPT_LENGTH_N], task, cut)


def _lengths(reader: Reader, lists: Mapping[str, _Chosen]) -> dict[str, IntArray]:
    pool = reader.columns("raw_pool", None, "prompt_id", "prompt")
    if pool is None or not pool.num_rows or not lists:
        return {}
    lengths = np.asarray(pc.fill_null(pc.utf8_length(pool["prompt"].cast(pa.string())), 0).to_numpy(), dtype=np.int64)
    ids = pool["prompt_id"].cast(pa.string()).combine_chunks()
    places = {name: pc.index_in(pa.array(one.ids, pa.string()), value_set=ids) for name, one in lists.items()}
    return {"": lengths} | {name: lengths[found.drop_null().to_numpy()] for name, found in places.items()}
