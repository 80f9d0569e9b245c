"""The ledger: what was sent out to annotators, one immutable file an export (`exports/<time>-<sha256>.json`).

An entry holds its rows whole, so one atomic write is both the note and the goods, and a user's file can be written again
from it. What goes out, and when, is decided in `exporting`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from taskdiv_assets.annotating.layout import DEFAULT, Layout, Row
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import Store

TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True)
class SentList:
    """One list of an export: a cell and a selection seed.

    Attributes:
        prompt_ids: prompts of the list that this export sent out.
        already_sent_ids: prompts of the list that other exports had sent out before. They belong to this list too: their
            answers are bought for it as much as for the list that they went out with.
    """

    cell: str
    selection_seed: int
    prompt_ids: tuple[str, ...]
    already_sent_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One export: one list, or several in one file with each prompt once.

    Of entries before the format was noted, `rows` is empty, and `format`, `file` and `sha256` are None. An export that found
    nothing new to send leaves an entry without prompts and without a file, if there is something that `already_sent_ids` has
    to say.

    Attributes:
        cell: of the first list.
        selection_seed: of the first list.
        prompt_ids: everything that went out, in the order of the file.
        already_sent_ids: prompts of the lists that had gone out before. Earlier versions did not note them.
        file: absolute path of the user's file, on the machine that exported.
        sha256: of that file's content, as it was written.
        layout: the file's columns.
        lists: each list with its own prompts, if there are several; see `of_lists`.
    """

    cell: str
    selection_seed: int
    exported_at: str
    prompt_ids: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    format: str | None = None
    file: str | None = None
    sha256: str | None = None
    already_sent_ids: tuple[str, ...] = ()
    layout: Layout = DEFAULT
    lists: tuple[SentList, ...] = ()

    @property
    def of_lists(self) -> tuple[SentList, ...]:
        """Every list of the export."""
        return self.lists or (SentList(self.cell, self.selection_seed, self.prompt_ids, self.already_sent_ids),)

    @property
    def name(self) -> str:
        """Its file name, without the ending: time, and a hash of what it holds."""
        return f"{self.exported_at}-{hashlib.sha256(','.join(self.prompt_ids).encode()).hexdigest()[:16]}"

    @property
    def time(self) -> datetime:
        """When it went out."""
        return datetime.strptime(self.exported_at, TIME_FORMAT).replace(tzinfo=UTC)


def note(store: Store, entry: Entry) -> None:
    """Put an entry: from now on its prompts are sent out."""
    store.put(json.dumps(asdict(entry), ensure_ascii=False, indent=1).encode(), "exports", f"{entry.name}.json")


def entries(store: Store) -> list[Entry]:
    """Return every export, the oldest first.

    Raises:
        ValueError: a file of the ledger cannot be read. Leaving it out would send its prompts out twice.
    """
    names = [name for name in store.names("exports") if name.endswith(".json")]
    return remote.at_once(lambda name: _entry(store, name), names)


def next_time(of: Sequence[Entry], now: datetime) -> str:
    """Time of a new entry: now, or just after the newest one where the clock was put back, for entries sort by time."""
    newest = max((entry.time for entry in of), default=None)
    later = now if newest is None else max(now, newest + timedelta(microseconds=1))
    return later.strftime(TIME_FORMAT)


def sent_prompt_ids(of: Iterable[Entry]) -> set[str]:
    """Every prompt that was sent out."""
    return {prompt_id for entry in of for prompt_id in entry.prompt_ids}


def of_kept_prompts(of: Sequence[Entry], kept: Mapping[str, str]) -> list[Entry]:
    """Return entries in which a kept prompt takes the place of its dropped copies, for counting.

    Files are written from the rows, which stay as they are.

    Args:
        of: entries, some of them perhaps from before copies were dropped.
        kept: the kept prompt id by a copy's, see `pools.copies`.
    """

    def ids(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kept.get(value, value) for value in values))

    def list_of(one: SentList) -> SentList:
        return replace(one, prompt_ids=ids(one.prompt_ids), already_sent_ids=ids(one.already_sent_ids))

    if not kept:
        return list(of)
    return [
        replace(
            entry,
            prompt_ids=ids(entry.prompt_ids),
            already_sent_ids=ids(entry.already_sent_ids),
            lists=tuple(map(list_of, entry.lists)),
        )
        for entry in of
    ]


def of_lists(exported_at: str, lists: Sequence[SentList], prompt_ids: Sequence[str]) -> Entry:
    """Return the entry of an export that holds these lists, before its rows and its file are known.

    Args:
        exported_at: time of the entry.
        lists: at least one.
        prompt_ids: of all lists, each once, in the order of the file.
    """
    first = lists[0]
    before = tuple(dict.fromkeys(prompt_id for one in lists for prompt_id in one.already_sent_ids))
    several = tuple(lists) if len(lists) > 1 else ()
    return Entry(
        first.cell, first.selection_seed, exported_at, tuple(prompt_ids), already_sent_ids=before, lists=several
    )


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
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{store.locate('exports', name)} is not an entry of the export ledger ({error!r}). It says which prompts were "
            "sent out, so nothing can be exported without it: restore it from a backup, or move it away if it is not ours"
        ) from None


def _list(raw: Mapping[str, Any]) -> SentList:
    return SentList(raw["cell"], raw["selection_seed"], _ids(raw["prompt_ids"]), _ids(raw["already_sent_ids"]))


def _ids(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
