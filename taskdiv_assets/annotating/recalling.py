"""What each annotator has still to answer, and the recall: prompts are taken back from somebody and dealt to others.

The ledger only grows. A recall is one entry, which takes prompts back and sends them in one atomic step. A prompt is
outstanding as long as fewer people have answered it than were asked. So an answer that comes from the first person after a
recall counts, and its prompt is not sent a third time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from taskdiv_assets.annotating import delivery, ledger
from taskdiv_assets.annotating.dealing import Wanted, check_names, deal
from taskdiv_assets.annotating.exporting import LOCK, Target, deliver, shares_of
from taskdiv_assets.annotating.gone import sent_but_gone
from taskdiv_assets.annotating.layout import Layout, Row
from taskdiv_assets.annotating.ledger import Entry, Share
from taskdiv_assets.graph.known_answers import all_annotations, folded_name
from taskdiv_assets.pools import copies
from taskdiv_assets.storage.locks import hold
from taskdiv_assets.storage.store import Store


@dataclass(frozen=True)
class Assignments:
    """Who was sent which prompts by name, and who has answered them. Names of people are folded (see `folded_name`)."""

    names: Mapping[str, str]  # folded → as in the ledger
    sent: Mapping[str, Mapping[str, datetime]]  # prompt_id → person → time of the last export; also what was taken back
    active: Mapping[str, frozenset[str]]  # prompt_id → people who have the prompt now
    answered: Mapping[str, frozenset[str]]  # prompt_id → people who answered it; "" for answers without a name

    def outstanding(self) -> list[tuple[str, str, datetime]]:
        """Return (prompt_id, person, time of the export) for each answer that is awaited from somebody, the oldest first."""
        found = []
        for prompt_id, people in self.active.items():
            done = self.answered.get(prompt_id, frozenset())
            if len(done) < len(people):
                found += [(prompt_id, one, self.sent[prompt_id][one]) for one in people - done]
        return sorted(found, key=lambda one: (one[2], one[0], one[1]))


class Person(NamedTuple):
    """The state of one annotator's work."""

    name: str
    sent_n: int  # prompts that were sent to this person, also those that were taken back
    answered_n: int  # of these, prompts that this person answered
    recalled_n: int  # of these, prompts that were taken back
    outstanding_n: int
    oldest: datetime | None  # when the oldest outstanding prompt was sent


class Recall(NamedTuple):
    """Result of a recall. If nothing was outstanding, nothing was taken back, and the ledger did not change."""

    number: int  # of the export in the ledger
    taken: tuple[Share, ...]
    shares: tuple[Share, ...]  # who gets what, with the files
    left_n: int  # answers that stay with the first person, because everybody else has had the prompt
    finished: list[Path]  # files of interrupted exports that the recall completed


def assignments(entries: Sequence[Entry], answered: Mapping[str, frozenset[str]]) -> Assignments:
    """Return the state after `entries`, the oldest first, which have the ids of kept prompts."""
    names: dict[str, str] = {}
    sent: dict[str, dict[str, datetime]] = {}
    active: dict[str, set[str]] = {}
    for entry in entries:
        for one in entry.recalled:
            for prompt_id in one.prompt_ids:
                active.get(prompt_id, set()).discard(folded_name(one.annotator))
        for one in entry.shares:
            names.setdefault(folded_name(one.annotator), one.annotator)
            for prompt_id in one.prompt_ids:
                sent.setdefault(prompt_id, {})[folded_name(one.annotator)] = entry.time
                active.setdefault(prompt_id, set()).add(folded_name(one.annotator))
    return Assignments(names, sent, {prompt_id: frozenset(people) for prompt_id, people in active.items()}, answered)


def read(store: Store, entries: Sequence[Entry] | None = None) -> Assignments:
    """Return the assignments in a store's ledger. `entries` is the ledger, if it was read before."""
    found = ledger.entries(store) if entries is None else entries
    answered: dict[str, set[str]] = {}
    rows = all_annotations(store)
    for prompt_id, name in zip(rows["prompt_id"].to_pylist(), rows["annotator"].to_pylist(), strict=True):
        answered.setdefault(prompt_id, set()).add(folded_name(name or ""))
    by_prompt = {prompt_id: frozenset(people) for prompt_id, people in answered.items()}
    return assignments(ledger.of_kept_prompts(found, copies.kept_of(store)), by_prompt)


def people(of: Assignments) -> list[Person]:
    """Return the state of every annotator's work, sorted by name. Without an answer by name, what is not awaited is answered."""
    awaited: dict[str, list[datetime]] = {}
    for _, one, time in of.outstanding():
        awaited.setdefault(one, []).append(time)
    found = []
    for one in sorted(of.names):
        sent = [prompt_id for prompt_id, to in of.sent.items() if one in to]
        is_active = [one in of.active[prompt_id] for prompt_id in sent]
        late = sum(not a and one in of.answered.get(i, ()) for a, i in zip(is_active, sent, strict=True))
        open_n = len(awaited.get(one, ()))
        answered_n, recalled_n = sum(is_active) - open_n + late, len(sent) - sum(is_active)
        oldest = min(awaited.get(one, ()), default=None)
        found.append(Person(of.names[one], len(sent), answered_n, recalled_n, open_n, oldest))
    return found


def recall(
    store: Store,
    target: Callable[[int], Target],
    *,
    annotator: str | None,
    older_than: timedelta | None,
    to: Sequence[str],
    on_wait: Callable[[str], None] | None = None,
) -> Recall:
    """Take back what is outstanding, and deal it to others, one file each. Nobody gets a prompt that he or she has had.

    `annotator` is the person from whom prompts are taken; None for everybody. Only prompts that were sent longer than
    `older_than` ago are taken. `to` names the people who get them; by default everybody in the ledger from whom nothing is
    taken. `target` returns the path of the files from the number of the export in the ledger.

    Raise ValueError if the annotator is unknown, if nobody is left who can get a prompt, or as an export does.
    """
    with hold(store, LOCK, on_wait=on_wait):
        entries = ledger.entries(store)
        finished = delivery.finish_all(entries)
        before = read(store, entries)
        gone = sent_but_gone(store, ledger.of_kept_prompts(entries, copies.kept_of(store)))
        late = [one for one in _late(before, annotator, older_than) if one[0] not in gone]
        if not late:
            return Recall(0, (), (), 0, finished)
        from_whom = {one for _, one, _ in late}
        others = tuple(name for folded, name in before.names.items() if folded not in from_whom)
        receivers = check_names(to, before.names.values()) if to else others
        rows, layout = _rows(entries, {prompt_id for prompt_id, _, _ in late}, store)
        dealt = deal(_wanted(rows, late, before), receivers)
        if not dealt.shares:
            who = ", ".join(receivers) or "nobody else is in the ledger"
            raise ValueError(
                f"nobody is left to answer the {len(rows):,} outstanding prompts ({who}): each of them has had these prompts "
                "already; name somebody else with --to"
            )
        sent = {prompt_id for ids in dealt.shares.values() for prompt_id in ids}
        kept = tuple(row for row in rows if row["prompt_id"] in sent)
        time = ledger.next_time(entries, datetime.now(UTC))
        entry = ledger.of_recall(time, [row["prompt_id"] for row in kept], _taken(late, dealt.left, before.names))
        number = len(entries) + 1
        entry = deliver(store, replace(entry, rows=kept, layout=layout, shares=shares_of(dealt)), target(number))
    return Recall(number, entry.recalled, entry.shares, sum(dealt.left.values()), finished)


def _wanted(rows: Sequence[Row], late: Sequence[tuple[str, str, datetime]], of: Assignments) -> list[Wanted]:
    """Return the prompts to deal to others: as many copies as are late, to nobody who was sent or has answered the prompt."""
    copies_n = Counter(prompt_id for prompt_id, _, _ in late)
    found = []
    for row in rows:
        prompt_id = row["prompt_id"]
        seen_by = frozenset(of.sent[prompt_id]) | of.answered.get(prompt_id, frozenset())
        found.append(Wanted(prompt_id, row["task"], copies_n[prompt_id], seen_by))
    return found


def _late(of: Assignments, annotator: str | None, older_than: timedelta | None) -> list[tuple[str, str, datetime]]:
    """Return what is outstanding from an annotator and was sent long enough ago. Raise ValueError for an unknown annotator."""
    if not of.names:
        raise ValueError(
            "no export named annotators, so there is nobody to take prompts back from; see export --annotators"
        )
    if annotator is not None and folded_name(annotator) not in of.names:
        raise ValueError(f"nothing was sent to {annotator!r}; expected one of {', '.join(sorted(of.names.values()))}")
    latest = None if older_than is None else datetime.now(UTC) - older_than
    return [
        one
        for one in of.outstanding()
        if (annotator is None or one[1] == folded_name(annotator)) and (latest is None or one[2] <= latest)
    ]


def _taken(
    late: Sequence[tuple[str, str, datetime]], left: Mapping[str, int], names: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return what is taken from whom. Copies that nobody else can get stay with the people who got the prompt last."""
    staying = dict(left)
    taken: dict[str, list[str]] = {}
    for prompt_id, one, _ in reversed(late):
        if staying.get(prompt_id, 0):
            staying[prompt_id] -= 1
        else:
            taken.setdefault(names[one], []).append(prompt_id)
    return {name: taken[name][::-1] for name in sorted(taken)}


def _rows(entries: Sequence[Entry], prompt_ids: set[str], store: Store) -> tuple[list[Row], Layout]:
    """Return prompts as they were sent before, sorted by rank, and a layout with the columns of all their exports."""
    kept = copies.kept_of(store)
    found: dict[str, tuple[Row, Layout]] = {}
    for entry in entries:
        for row in entry.rows:
            prompt_id = kept.get(row["prompt_id"], row["prompt_id"])
            if prompt_id in prompt_ids:
                again = row.copy()
                again["prompt_id"] = prompt_id
                found[prompt_id] = (again, entry.layout)
    layouts = [layout for _, layout in found.values()]
    own_id = next((one.own_id for one in reversed(layouts) if one.own_id), None)
    extras = tuple(dict.fromkeys(name for one in layouts for name in one.extras))
    drafts = next((one.drafts for one in reversed(layouts) if one.drafts), None)
    whole = Layout(own_id, any(one.has_tasks for one in layouts), extras, drafts)
    rows = []
    for row, layout in found.values():
        values = dict(zip(layout.extras, row.get("extras", ()), strict=True))
        row["extras"] = [values.get(name) for name in extras]
        rows.append(row)
    return sorted(rows, key=lambda row: (row["rank"], row["prompt_id"])), whole
