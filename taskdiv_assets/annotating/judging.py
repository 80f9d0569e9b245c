"""Which answers of a file can be stored: those to known prompts, on which the file does not contradict itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from taskdiv_assets.annotating.answer_files import Answer
from taskdiv_assets.annotating.problems import Problem

# What spreadsheet programs make of an id that they take for a number: 1.23457E+15, 1,23457E+15, 1234567890123450.
_NUMBER = re.compile(r"\d([.,]\d+)?e[+]?\d+|\d{1,16}", re.IGNORECASE | re.ASCII)


class Judged(NamedTuple):
    """Answers that can be stored, the oldest first where the file gives times, and the rows that cannot."""

    valid: list[Answer]
    problems: list[Problem]


def judge(answers: Sequence[Answer], known: Collection[str]) -> Judged:
    """Tell the answers that can be stored from those that cannot.

    Two different answers to one prompt are refused, both of them, unless each has a time: then both are kept and the later
    one counts. The same answer twice does no harm.

    Args:
        answers: of one file.
        known: ids of the pool.
    """
    groups: dict[str, list[Answer]] = {}
    problems: list[Problem] = []
    for answer in answers:
        swallowed = _swallowed(answer, known)
        if swallowed:
            problems.append(Problem(answer.row, answer.prompt_id, swallowed))
            continue
        groups.setdefault(answer.prompt_id, []).append(answer)
    valid: list[Answer] = []
    for prompt_id, group in groups.items():
        reasons = _reasons(prompt_id, group, known)
        problems += [Problem(answer.row, prompt_id, reason) for answer, reason in zip(group, reasons, strict=False)]
        valid += group if not reasons else []
    valid.sort(key=lambda answer: (answer.answered_at.timestamp() if answer.answered_at else 0.0, answer.row))
    return Judged(valid, problems)


def _swallowed(answer: Answer, known: Collection[str]) -> str:
    """That a row of a sheet holds another row, as after a stray quote; empty where it does not."""
    others = [
        (line, id_) for line, id_, is_own in answer.inner_ids if not is_own and id_ in known and id_ != answer.prompt_id
    ]
    if not others:
        return ""
    line, prompt_id = others[0]
    return (
        f"the row goes on to line {line} of the file, which has the prompt_id {prompt_id} of another row: "
        "a quote is missing, or one too many. That row and the others inside were not read"
    )


def _reasons(prompt_id: str, group: Sequence[Answer], known: Collection[str]) -> list[str]:
    """Why each answer to one prompt cannot be used; none if they all can."""
    if prompt_id not in known:
        is_number = _NUMBER.fullmatch(prompt_id) is not None
        hint = "; a spreadsheet program may have made a number of it: copy it from the list again" if is_number else ""
        return [f"prompt_id {prompt_id[:60]!r} is not in the pool of this experiment{hint}"] * len(group)
    is_timed = all(answer.answered_at is not None for answer in group)
    if is_timed or len({answer.response for answer in group}) == 1:
        return []
    first = group[0]
    other = next(answer for answer in group if answer.response != first.response)
    return [
        f"{prompt_id} has another answer in row {(other if answer.response == first.response else first).row}"
        for answer in group
    ]
