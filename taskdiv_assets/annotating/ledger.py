"""The ledger of exports. It records which prompts were sent to annotators, and for which list an answer was bought.

Each recorded export is one immutable file `exports/<time>-<hash of the prompts>.json`. It contains the exported rows, so the rows
and the fact that they were sent are recorded by one atomic write. The user's file can be written again from these rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from taskdiv_assets.annotating.layout import DEFAULT, Layout, Row
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.pools import copies
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import Store

HELD_OUT = "held_out"  # value of `Entry.cell` if the held-out items were exported, which belong to no cell
RECALL = "recall"  # value of `Entry.cell` if prompts were taken back from annotators and dealt to others
TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True)
class SentList:
    """One list of an export: a cell and a selection seed.

    An answer to a prompt of `already_sent_ids` counts as bought for this list, and for the list with which the prompt was sent.
    """

    cell: Cell
    selection_seed: int
    prompt_ids: tuple[str, ...]  # prompts of the list that this export sent
    already_sent_ids: tuple[str, ...] = ()  # prompts of the list that earlier exports sent

    @property
    def list_ids(self) -> tuple[str, ...]:
        """All prompts of the list, sent by this export or by an earlier one."""
        return self.prompt_ids + self.already_sent_ids


@dataclass(frozen=True)
class Share:
    """The part of an export that one annotator got, or the part of a recall that was taken back from one annotator."""

    annotator: str
    prompt_ids: tuple[str, ...]  # in the order of the file
    file: str | None = (
        None  # absolute path of the annotator's file on the exporting machine; None for what was taken back
    )
    sha256: str | None = None  # of the content of `file`


@dataclass(frozen=True)
class Entry:
    """One export: one list, several lists in one file that contains each prompt once, or the held-out items.

    An export that was dealt out among annotators has one file for each of them (`shares`), and no `file`. A recall is such an
    export too: it sends prompts again that `recalled` takes back from others.

    Entries of the first versions have only the first four fields. An export that sends no prompt writes no file. It has an entry
    only if one of its lists contains a prompt that earlier exports sent, but did not record for this list.
    """

    cell: str  # partition key of the first list's cell, or `HELD_OUT`, or `RECALL`
    selection_seed: int  # of the first list; 0 for held-out items
    exported_at: str  # UTC, in `TIME_FORMAT`
    prompt_ids: tuple[str, ...]  # all exported prompts, in the order of the file
    rows: tuple[Row, ...] = ()
    format: str | None = None
    file: str | None = None  # absolute path of the user's file on the exporting machine
    sha256: str | None = None  # of the content of `file`
    already_sent_ids: tuple[str, ...] = ()  # prompts of the lists that were sent before
    layout: Layout = DEFAULT
    lists: tuple[SentList, ...] = ()  # empty for a single list; `of_lists` returns the list also then
    shares: tuple[Share, ...] = ()  # who got what; empty for an export in one file
    recalled: tuple[Share, ...] = ()  # who had to give back what

    @property
    def files(self) -> list[tuple[str, str | None]]:
        """Paths of the exported files, each with the hash of its content."""
        named = [(self.file, self.sha256), *((one.file, one.sha256) for one in self.shares)]
        return [(file, sha256) for file, sha256 in named if file]

    @property
    def of_lists(self) -> tuple[SentList, ...]:
        if self.lists or self.cell in (HELD_OUT, RECALL):
            return self.lists
        return (SentList(Cell.parse(self.cell), self.selection_seed, self.prompt_ids, self.already_sent_ids),)

    @property
    def name(self) -> str:
        """Name of the entry's file without `.json`: the time and a hash of the prompt ids."""
        return f"{self.exported_at}-{hashlib.sha256(','.join(self.prompt_ids).encode()).hexdigest()[:16]}"

    @property
    def time(self) -> datetime:
        return datetime.strptime(self.exported_at, TIME_FORMAT).replace(tzinfo=UTC)


_Sent = TypeVar("_Sent", Entry, SentList)


# --- reading and writing ---------------------------------------------------------------------------------------------


def note(store: Store, entry: Entry) -> None:
    """Store an entry. From then on, the prompts of the entry count as sent."""
    raw = asdict(entry) | {"lists": [{**asdict(one), "cell": one.cell.key} for one in entry.lists]}
    store.put(json.dumps(raw, ensure_ascii=False, indent=1).encode(), "exports", f"{entry.name}.json")


def entries(store: Store) -> list[Entry]:
    """Return every export, the oldest first. Raise ValueError for an unusable file, because its prompts would be sent again."""
    names = [name for name in store.names("exports") if name.endswith(".json")]
    return remote.at_once(lambda name: _entry(store, name), names)


def read(store: Store) -> list[SentList]:
    """Return every list of every export, the oldest first. Dropped copies of a prompt are replaced by the kept prompt."""
    return sent(of_kept_prompts(entries(store), copies.kept_of(store)))


def next_time(of: Sequence[Entry], now: datetime) -> str:
    """Return the time of a new entry as text: `now`, or one microsecond after the newest entry in `of` if that is later."""
    newest = max((entry.time for entry in of), default=None)
    later = now if newest is None else max(now, newest + timedelta(microseconds=1))
    return later.strftime(TIME_FORMAT)


def of_lists(exported_at: str, lists: Sequence[SentList], prompt_ids: Sequence[str]) -> Entry:
    """Return the entry of an export, still without rows and file. `prompt_ids` are the prompts to send, in the file's order."""
    before = tuple(dict.fromkeys(prompt_id for one in lists for prompt_id in one.already_sent_ids))
    several = tuple(lists) if len(lists) > 1 else ()
    key, seed = lists[0].cell.key, lists[0].selection_seed
    return Entry(key, seed, exported_at, tuple(prompt_ids), already_sent_ids=before, lists=several)


def of_held_out(exported_at: str, prompt_ids: Sequence[str]) -> Entry:
    """Return the entry of an export of held-out items, still without rows and file."""
    return Entry(HELD_OUT, 0, exported_at, tuple(prompt_ids))


def of_recall(exported_at: str, prompt_ids: Sequence[str], recalled: Mapping[str, Sequence[str]]) -> Entry:
    """Return the entry of a recall, still without rows and files. `recalled` maps annotators to the prompts taken from them."""
    taken = tuple(Share(name, tuple(ids)) for name, ids in recalled.items())
    return Entry(RECALL, 0, exported_at, tuple(prompt_ids), recalled=taken)


def of_kept_prompts(of: Sequence[Entry], kept: Mapping[str, str]) -> list[Entry]:
    """Return the entries with the ids of kept prompts instead of the ids of dropped copies. `rows` do not change.

    `kept` maps the id of a dropped copy to the id of its kept prompt.
    """

    def ids(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kept.get(value, value) for value in values))

    def replaced(one: _Sent) -> _Sent:
        return replace(one, prompt_ids=ids(one.prompt_ids), already_sent_ids=ids(one.already_sent_ids))

    def shares(of: Sequence[Share]) -> tuple[Share, ...]:
        return tuple(replace(one, prompt_ids=ids(one.prompt_ids)) for one in of)

    def whole(entry: Entry) -> Entry:
        lists, dealt, taken = tuple(map(replaced, entry.lists)), shares(entry.shares), shares(entry.recalled)
        return replace(replaced(entry), lists=lists, shares=dealt, recalled=taken)

    return [whole(entry) for entry in of] if kept else list(of)


def _entry(store: Store, name: str) -> Entry:
    try:
        raw: dict[str, Any] = json.loads(store.get("exports", name) or b"")
        return Entry(
            cell=raw["cell"],
            selection_seed=raw["selection_seed"],
            exported_at=raw["exported_at"],
            prompt_ids=_ids(raw["prompt_ids"]),
            rows=tuple(raw.get("rows", ())),
            format=raw.get("format"),
            file=raw.get("file"),
            sha256=raw.get("sha256"),
            already_sent_ids=_ids(raw.get("already_sent_ids", ())),
            layout=Layout.parse(raw.get("layout")),
            lists=tuple(_list(one) for one in raw.get("lists", ())),
            shares=tuple(_share(one) for one in raw.get("shares", ())),
            recalled=tuple(_share(one) for one in raw.get("recalled", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{store.locate('exports', name)} is not an entry of the export ledger ({error!r}). The ledger says which prompts "
            "were sent, so nothing can be exported without it: restore the file from a backup, or move it away if taskdiv did "
            "not write it"
        ) from None


def _list(raw: Mapping[str, Any]) -> SentList:
    ids, before = _ids(raw["prompt_ids"]), _ids(raw["already_sent_ids"])
    return SentList(Cell.parse(raw["cell"]), raw["selection_seed"], ids, before)


def _share(raw: Mapping[str, Any]) -> Share:
    return Share(str(raw["annotator"]), _ids(raw["prompt_ids"]), raw.get("file"), raw.get("sha256"))


def _ids(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(map(str, values))


# --- what was sent, and what was bought ------------------------------------------------------------------------------


def sent_prompt_ids(of: Iterable[Entry]) -> set[str]:
    return {prompt_id for entry in of for prompt_id in entry.prompt_ids}


def sent(of: Iterable[Entry]) -> list[SentList]:
    """Return all lists of the given entries."""
    return [one for entry in of for one in entry.of_lists]


def listed(lists: Iterable[SentList], cell: Cell, selection_seeds: Collection[int]) -> set[tuple[int, str]]:
    """Return the prompts of those lists that have the cell's strategy, at most the cell's budget, and one of the seeds.

    The result has a pair (seed, prompt id) for each prompt of a list, also if the prompt was sent with another list.
    """
    return {
        (one.selection_seed, prompt_id)
        for one in lists
        if one.cell.strategy == cell.strategy
        and one.cell.budget_n <= cell.budget_n
        and one.selection_seed in selection_seeds
        for prompt_id in one.list_ids
    }


def bought(
    lists: Iterable[SentList], answers: Mapping[str, str | None], cell: Cell, selection_seeds: Collection[int]
) -> list[tuple[int, str]]:
    """Return the labels bought for a cell, as sorted pairs: the pairs of `listed` whose prompt has an answer now.

    A prompt has no answer when it is sent, so an answer to a sent prompt was bought. `answers` maps all prompt ids of the pool to
    the answer, or to None if the answer is unknown.
    """
    pairs = listed(lists, cell, selection_seeds)
    return sorted((seed, prompt_id) for seed, prompt_id in pairs if answers.get(prompt_id) is not None)


def kept_first(lists: Sequence[SentList], annotated: Iterable[str], strategy: str) -> list[list[str]]:
    """Return the annotated prompts that a strategy's order places first, as groups of sorted prompt ids. No group is empty.

    A prompt in exported lists of this strategy is in the group of the smallest budget of these lists, also if it was sent with
    the list of another strategy. Groups are sorted by budget, so a smaller budget keeps its labels when labels for a larger
    budget are bought. Prompts that were never exported, such as prompts with an answer in the user's file, form the last group.
    Prompts that belong only to lists of other strategies are left out: if they were placed first, `random` would become a copy of
    the strategy that it is compared with.
    """
    own = sorted((one for one in lists if one.cell.strategy == strategy), key=lambda one: -one.cell.budget_n)
    first_n = {prompt_id: one.cell.budget_n for one in own for prompt_id in one.list_ids}  # the smallest budget is last
    went_out = {prompt_id for one in lists for prompt_id in one.prompt_ids}
    groups: dict[float, list[str]] = {}
    for prompt_id in sorted(set(annotated)):
        if prompt_id in first_n or prompt_id not in went_out:
            groups.setdefault(first_n.get(prompt_id, math.inf), []).append(prompt_id)
    return [groups[budget_n] for budget_n in sorted(groups)]
