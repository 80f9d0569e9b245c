"""Checks of the answers in a file: find the prompt of each answer, and reject the answers that cannot be stored.

`resolve` finds the prompt by its prompt_id or by its "own id", the id of the user's own file. If a row has both ids and they
disagree, the row is rejected, because it is unknown which id is wrong. `judge` rejects unknown prompts and contradictions. Both
functions reject a row that contains other rows because of a wrong quote.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from taskdiv_assets.annotating.answer_files import Answer
from taskdiv_assets.annotating.answer_sheets import Inner
from taskdiv_assets.annotating.problems import Problem
from taskdiv_assets.graph.known_answers import folded_name

SHOWN = 60  # characters of an id in a message
# Forms to which spreadsheet programs change an id that looks like a number: 1.23457E+15, 1,23457E+15, 1234567890123450.
_NUMBER = re.compile(r"\d([.,]\d+)?e[+]?\d+|\d{1,16}", re.IGNORECASE | re.ASCII)
_CONTINUES = "the row continues to line {} of the file, which"
GONE = (
    "was sent out, but the row of this prompt is no longer in the pool: put the row back into your file with its text, and run "
    "`taskdiv run` before you import again"
)
QUOTE = "a quote is missing, or one too many. That row and the others inside were not read"


class PoolIds(NamedTuple):
    """The ids by which answers may name the prompts of a pool."""

    prompt_ids: Mapping[str, str]  # prompt_id of an answer → prompt_id in the pool; they differ for a dropped copy
    own_ids: Mapping[str, str | None]  # own id → prompt_id of the pool; None if several prompts have the own id
    own_of: Mapping[str, str]  # prompt_id → own id
    sent_ids: Set[str] = (
        frozenset()
    )  # prompt ids and own ids of prompts that were sent out; the pool may no longer have them

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str | None]], dropped: Mapping[str, str]) -> PoolIds:
        """Return the ids of a pool from the prompt_id and own id of each prompt.

        `dropped` maps the prompt_id or own id of a dropped copy to the prompt_id of the kept prompt.
        """
        prompt_ids = dict(dropped)
        own_ids: dict[str, str | None] = {bare(own): kept for own, kept in dropped.items()}
        own_of: dict[str, str] = {}
        for prompt_id, own in pairs:
            prompt_ids[prompt_id] = prompt_id
            if own is None:
                continue
            own_of[prompt_id] = bare(own)
            own_ids[bare(own)] = prompt_id if own_ids.get(bare(own), prompt_id) == prompt_id else None
        return cls(prompt_ids, own_ids, own_of)


def bare(own_id: str) -> str:
    """Remove U+0000 and white space around an own id, and the apostrophe at its start that an export may have added.

    >>> bare(" '00123 ")
    '00123'
    """
    return own_id.replace("\0", "").strip().removeprefix("'")


def resolve(answers: Sequence[Answer], ids: PoolIds) -> tuple[list[Answer], list[Problem]]:
    """Return the accepted answers with the pool's prompt_ids, and a problem for each rejected row.

    An own id is an id of the user's own file. A row is rejected if its ids disagree, or if a missing or extra quote made it
    contain the row of a prompt that no other row answers. A row without a prompt_id is rejected if its own id is unknown or
    belongs to several prompts, and a row without an own id if its prompt_id is in fact an own id. Any other unknown prompt_id is
    kept, so that `judge` can reject it. Each answer must have a prompt_id or an own id.
    """
    answered = {bare(own) for answer in answers for _, own in answer.own_ids}
    found: list[Answer] = []
    problems: list[Problem] = []
    for answer in answers:
        reason = _swallows_own_id(answer.inner_ids, answered, ids) or _disagreement(answer, ids)
        if reason:
            problems.append(Problem(answer.row, answer.shown_id, reason))
        else:
            found.append(answer._replace(prompt_id=_prompt_of(answer, ids)))
    return found, problems


def _prompt_of(answer: Answer, ids: PoolIds) -> str:
    if answer.prompt_id:
        return ids.prompt_ids.get(answer.prompt_id, answer.prompt_id)
    return ids.own_ids[bare(answer.own_ids[0][1])] or ""


def _swallows_own_id(inner: Sequence[Inner], answered: set[str], ids: PoolIds) -> str:
    """Return an error message if a CSV row contains the row of another prompt, whose own id is not in `answered`; else ""."""
    for line, cell, is_own in inner:
        if is_own and bare(cell) in ids.own_ids and bare(cell) not in answered:
            return f"{_CONTINUES.format(line)} begins with the id {cell!r} of another prompt: {QUOTE}"
    return ""


def _disagreement(answer: Answer, ids: PoolIds) -> str:
    """Return an error message if the ids of one row cannot be used; otherwise ""."""
    prompt = ids.prompt_ids.get(answer.prompt_id)
    shown = answer.prompt_id[:SHOWN]
    if not answer.own_ids and prompt is None and bare(answer.prompt_id) in ids.own_ids:
        return f"prompt_id {shown!r} is one of your own ids; use --columns id=COLUMN to read a column of own ids"
    for name, own in answer.own_ids:
        if answer.prompt_id in ids.sent_ids and prompt is None and bare(own) not in ids.own_ids:
            return f"prompt_id {shown!r} ({name} {own[:SHOWN]!r}) {GONE}"
        if answer.prompt_id and not _agrees(own, prompt, ids):
            own_of = "is not in the pool of this experiment"
            if prompt is not None:
                own_of = f"has the {name} {ids.own_of.get(prompt)!r}"
            return (
                f"{name} {own[:SHOWN]!r} and prompt_id {shown!r} disagree: that prompt_id {own_of}. Correct one of them, or "
                f"remove the column that is wrong"
            )
        if not answer.prompt_id and bare(own) not in ids.own_ids:
            if bare(own) in ids.sent_ids:
                return f"{name} {own[:SHOWN]!r} {GONE}"
            return f"{name} {own[:SHOWN]!r} is not in the pool of this experiment; expected an id of your file, or a prompt_id"
        if not answer.prompt_id and ids.own_ids[bare(own)] is None:
            return f"{name} {own[:SHOWN]!r} is the id of several prompts; add the column prompt_id from the list"
    meant = {ids.own_ids.get(bare(own)) for _, own in answer.own_ids}
    if not answer.prompt_id and len(meant) > 1:
        shown_ids = " and ".join(f"{name} {own[:SHOWN]!r}" for name, own in answer.own_ids)
        return f"the ids {shown_ids} belong to two prompts"
    return ""


def _agrees(own: str, prompt: str | None, ids: PoolIds) -> bool:
    """Return True if an own id belongs to a prompt or to one of its dropped copies."""
    return prompt is not None and (ids.own_of.get(prompt) == bare(own) or ids.own_ids.get(bare(own)) == prompt)


class Judged(NamedTuple):
    """The answers that can be stored, and the rows that cannot.

    The answers are sorted by time (those without a time first), then by row.
    """

    valid: list[Answer]
    problems: list[Problem]


def judge(answers: Sequence[Answer], known: Collection[str], sent_ids: Set[str] = frozenset()) -> Judged:
    """Return those answers of one file that can be stored, and a problem for each of the others.

    An answer is rejected if its prompt is unknown or its row contains another row. Equal answers to a prompt are accepted, and
    so are different answers of two annotators. If the answers of one annotator to a prompt differ and one of them has no time,
    all of them are rejected. If each of them has a time, all are kept and the latest counts. `known` contains the ids of the
    pool's prompts, and of held-out items whose answers are imported. `sent_ids` contains the ids of prompts that were sent out.
    """
    groups: dict[str, list[Answer]] = {}
    problems: list[Problem] = []
    for answer in answers:
        if swallowed := _swallows_prompt_id(answer, known):
            problems.append(Problem(answer.row, answer.prompt_id, swallowed))
        else:
            groups.setdefault(answer.prompt_id, []).append(answer)
    valid: list[Answer] = []
    for prompt_id, group in groups.items():
        reasons = _reasons(prompt_id, group, known, sent_ids)
        problems += [Problem(one.row, prompt_id, reason) for one, reason in zip(group, reasons, strict=True) if reason]
        valid += [one for one, reason in zip(group, reasons, strict=True) if not reason]
    valid.sort(key=lambda answer: (answer.answered_at.timestamp() if answer.answered_at else 0.0, answer.row))
    return Judged(valid, problems)


def _swallows_prompt_id(answer: Answer, known: Collection[str]) -> str:
    """Return an error message if a CSV row contains the prompt_id, and therefore the row, of another prompt; otherwise ""."""
    for line, id_, is_own in answer.inner_ids:
        if not is_own and id_ in known and id_ != answer.prompt_id:
            return f"{_CONTINUES.format(line)} has the prompt_id {id_} of another row: {QUOTE}"
    return ""


def _reasons(prompt_id: str, group: Sequence[Answer], known: Collection[str], sent_ids: Set[str]) -> list[str]:
    """Return for each answer to a prompt why it is rejected, or "" if it can be used."""
    if prompt_id not in known:
        if prompt_id in sent_ids:
            return [f"prompt_id {prompt_id[:SHOWN]!r} {GONE}"] * len(group)
        is_number = _NUMBER.fullmatch(prompt_id) is not None
        hint = "; a spreadsheet program may have made it a number: copy it from the list again" if is_number else ""
        return [f"prompt_id {prompt_id[:60]!r} is not in the pool of this experiment{hint}"] * len(group)
    by_person: dict[str, list[Answer]] = {}
    for answer in group:
        by_person.setdefault(folded_name(answer.annotator or ""), []).append(answer)
    other_rows = {name: _other_rows(own) for name, own in by_person.items()}
    rows = [other_rows[folded_name(answer.annotator or "")].get(answer.row) for answer in group]
    return ["" if row is None else f"{prompt_id} has another answer in row {row}" for row in rows]


def _other_rows(own: Sequence[Answer]) -> dict[int, int]:
    """Return for each row of one annotator's answers to a prompt a row with another answer; empty if all can be used."""
    is_timed = all(answer.answered_at is not None for answer in own)
    if is_timed or len({answer.response for answer in own}) == 1:
        return {}
    first = own[0]
    other = next(answer for answer in own if answer.response != first.response)
    return {answer.row: other.row if answer.response == first.response else first.row for answer in own}
