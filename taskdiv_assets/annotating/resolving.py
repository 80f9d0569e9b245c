"""Which prompt an answer belongs to, whichever id it came back under: the prompt_id, or the user's own.

In: answers as they stand in the file, and the ids of the pool. Out: answers with a prompt_id, and the rows whose ids cannot
be used. Where a row has two ids they have to agree: one of them was changed, and nobody can say which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from taskdiv_assets.annotating.answer_files import Answer
from taskdiv_assets.annotating.answer_sheets import Inner
from taskdiv_assets.annotating.problems import Problem

SHOWN = 60  # characters of an id in a sentence


class PoolIds(NamedTuple):
    """The ids of a pool.

    Attributes:
        prompt_ids: every prompt_id that an answer may come back under, and the prompt it counts for: itself, or for a
            repeat that was dropped the one that was kept.
        own_ids: every own id, and the prompt it counts for; None where several prompts have it.
        own_of: the own id of a prompt.
    """

    prompt_ids: Mapping[str, str]
    own_ids: Mapping[str, str | None]
    own_of: Mapping[str, str]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str | None]], dropped: Mapping[str, str]) -> PoolIds:
        """Return the ids of a pool.

        Args:
            pairs: prompt_id and own id of each prompt.
            dropped: prompt_ids and own ids of dropped repeats, and the prompt_id that was kept.
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
    """Return an own id as it comes back: without blanks around it, the apostrophe of an export, and U+0000.

    >>> bare(" '00123 ")
    '00123'
    """
    return own_id.replace("\0", "").strip().removeprefix("'")


def resolve(answers: Sequence[Answer], ids: PoolIds) -> tuple[list[Answer], list[Problem]]:
    """Give every answer the prompt_id that it counts for.

    An answer whose prompt_id is unknown keeps it, if it has no other id: `judging` refuses it.

    Args:
        answers: of one file.
        ids: of the pool.

    Returns: answers that have a prompt_id, and the rows whose ids cannot be used.
    """
    answered = {bare(own) for answer in answers for _, own in answer.own_ids}
    found: list[Answer] = []
    problems: list[Problem] = []
    for answer in answers:
        reason = _swallowed(answer.inner_ids, answered, ids) or _disagreement(answer, ids)
        if reason:
            problems.append(Problem(answer.row, answer.shown_id, reason))
        else:
            found.append(answer._replace(prompt_id=_prompt_of(answer, ids)))
    return found, problems


def _prompt_of(answer: Answer, ids: PoolIds) -> str:
    if answer.prompt_id:
        return ids.prompt_ids.get(answer.prompt_id, answer.prompt_id)
    return ids.own_ids[bare(answer.own_ids[0][1])] or ""


def _swallowed(inner: Sequence[Inner], answered: set[str], ids: PoolIds) -> str:
    """Say that a row of a sheet holds another row, by the own id of a prompt that has no row; empty where it does not."""
    for line, cell, is_own in inner:
        if is_own and bare(cell) in ids.own_ids and bare(cell) not in answered:
            return (
                f"the row goes on to line {line} of the file, which begins with the id {cell!r} of another prompt: a quote is "
                "missing, or one too many. That row and the others inside were not read"
            )
    return ""


def _disagreement(answer: Answer, ids: PoolIds) -> str:
    """Say what is wrong with the ids of one row; empty where nothing is."""
    prompt = ids.prompt_ids.get(answer.prompt_id)
    shown = answer.prompt_id[:SHOWN]
    if not answer.own_ids and prompt is None and bare(answer.prompt_id) in ids.own_ids:
        return f"prompt_id {shown!r} is one of your own ids; say --columns id=COLUMN for a column of such"
    for name, own in answer.own_ids:
        if answer.prompt_id and not _agrees(own, prompt, ids):
            said = (
                "is not in the pool of this experiment"
                if prompt is None
                else f"has the {name} {ids.own_of.get(prompt)!r}"
            )
            return (
                f"{name} {own[:SHOWN]!r} and prompt_id {shown!r} disagree: that prompt_id {said}. Repair one of them, or "
                f"remove the column that is wrong"
            )
        if not answer.prompt_id and bare(own) not in ids.own_ids:
            return f"{name} {own[:SHOWN]!r} is not in the pool of this experiment; expected an id of your file, or a prompt_id"
        if not answer.prompt_id and ids.own_ids[bare(own)] is None:
            return f"{name} {own[:SHOWN]!r} is the id of several prompts; add the column prompt_id from the list"
    meant = {ids.own_ids.get(bare(own)) for _, own in answer.own_ids}
    if not answer.prompt_id and len(meant) > 1:
        return f"the ids {' and '.join(f'{name} {own[:SHOWN]!r}' for name, own in answer.own_ids)} are of two prompts"
    return ""


def _agrees(own: str, prompt: str | None, ids: PoolIds) -> bool:
    """True if an own id is that of a prompt, or of one of its dropped repeats."""
    return prompt is not None and (ids.own_of.get(prompt) == bare(own) or ids.own_ids.get(bare(own)) == prompt)
