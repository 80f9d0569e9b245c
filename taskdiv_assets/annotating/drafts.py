"""Drafts: texts that go out with the prompts, for annotators to edit, and the count of those that came back unchanged.

An endpoint or the base model writes them, before the export and outside its lock; the export takes what is in the store. A draft
is part of the ledger's row, so a rewritten list is equal byte by byte, and an import can compare the answer with its draft.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from data_contracts.spreadsheet_cells import text_cell
from taskdiv_assets.annotating import ledger, lists
from taskdiv_assets.annotating.asking import OnProgress, ask, open_endpoint
from taskdiv_assets.annotating.layout import DRAFT, Layout, Row, folded
from taskdiv_assets.annotating.ledger import Entry
from taskdiv_assets.annotating.lists import Seeds
from taskdiv_assets.annotating.replies import ANSWERED, CUT, Bill, ModelReply, bill, known, question_of, read_parts
from taskdiv_assets.chat.crew import ClientOptions
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.pools import copies
from taskdiv_assets.storage.locks import hold

FOLDER = "drafts"
DRAFT_LOCK = "annotations-drafts"


class Drafts(NamedTuple):
    """The drafts of one export, and what the calls for them cost."""

    writer: str  # the model's name
    texts: Mapping[str, str]  # by prompt_id
    replies: Sequence[ModelReply] = ()  # of this run
    missing_n: int = 0  # prompts to send out that have no draft
    bill: Bill | None = None  # of this run; None for the base model


class Anchoring(NamedTuple):
    """How often one annotator left the draft of a task's prompts as it was."""

    annotator: str  # empty if nobody is named
    task: str
    answers_n: int  # answers to prompts that were sent with a draft
    kept_n: int  # of these: equal to the draft if white space is ignored


def unsent(lineage: Lineage, cells: Sequence[Cell], seeds: Seeds) -> dict[str, str]:
    """Return the prompts, by prompt_id, that an export of these lists would send now.

    Raises:
        ValueError, StaleInputError: as `exporting.export`.
    """
    store = lineage.store
    went_out = ledger.sent_prompt_ids(ledger.of_kept_prompts(ledger.entries(store), copies.kept_of(store)))
    batch = lists.gather(store, lists.names(lineage.again(), cells, seeds), went_out).batch
    return {str(row["prompt_id"]): str(row["prompt"]) for row in batch}


def by_endpoint(
    lineage: Lineage,
    prompts: Mapping[str, str],  # by prompt_id
    *,
    options: ClientOptions | None = None,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Drafts:
    """Return a draft of each prompt by the model of `annotation: {drafts: …}`. Replies in the store are not asked for again.

    A reply that was cut is a draft too. A prompt whose reply is no text goes out without a draft.

    Raises:
        ValueError: the file names no model for drafts, or the endpoint cannot be used. Replies so far are stored.
    """
    annotation, store = lineage.experiment.annotation, lineage.store
    model = annotation.drafts
    if model is None:
        raise ValueError(
            f"{lineage.experiment.name} names no model for drafts; add `annotation: {{drafts: {{model: NAME, calls: 500}}}}` to "
            "its file, and run it with --replace; or use --drafts base"
        )
    open_endpoint(model, options or ClientOptions()).close()
    questions = {
        prompt_id: question_of(model, annotation.instructions, prompt) for prompt_id, prompt in prompts.items()
    }
    with hold(store, DRAFT_LOCK, on_wait=on_wait):
        before = read_parts(store, FOLDER)
        has_reply = known(before)
        asked = {prompt_id: one for prompt_id, one in questions.items() if one.key not in has_reply}
        left_n = model.calls - sum(reply.calls_n for reply in before)
        replies = ask(store, FOLDER, model, asked, left_n, options=options, on_progress=on_progress)
    keys = {prompt_id: question.key for prompt_id, question in questions.items()}
    return of_replies(model.model, keys, [*before, *replies])._replace(replies=replies, bill=bill(replies, model))


def of_replies(writer: str, keys: Mapping[str, str], replies: Iterable[ModelReply]) -> Drafts:
    """Return the drafts for prompts, given the key of each prompt's question. `replies` are those in the store."""
    texts = {key: reply.response for key, reply in known(replies).items() if reply.kind in (ANSWERED, CUT)}
    found = {prompt_id: texts[key] for prompt_id, key in keys.items() if key in texts}
    return Drafts(writer, found, missing_n=len(keys) - len(found))


def with_drafts(layout: Layout, rows: Sequence[Row], drafts: Drafts) -> tuple[Layout, list[Row]]:
    """Return the layout and the rows of a list with a draft for each row that has one.

    Raise ValueError if the list has another column of that name.
    """
    if DRAFT in map(folded, [*layout.extras, layout.own_id or ""]):
        raise ValueError(f"a list with drafts has a column `{DRAFT}`, and so has your file; rename yours to export it")
    full: list[Row] = []
    for row in rows:
        text = drafts.texts.get(row["prompt_id"])
        full.append(row.copy())
        if text is not None:
            full[-1]["draft"] = text.replace("\0", "")
    return replace(layout, drafts=drafts.writer), full


# --- what came back unchanged ----------------------------------------------------------------------------------------


def sent_drafts(entries: Iterable[Entry], kept: Mapping[str, str]) -> dict[str, str]:
    """Return the draft of each prompt that was sent with one. `kept` maps the id of a dropped copy to that of the kept prompt."""
    drafts = [(row["prompt_id"], row["draft"]) for entry in entries for row in entry.rows if row.get("draft")]
    return {kept.get(prompt_id, prompt_id): text for prompt_id, text in drafts}


def without_guard(response: str, draft: str | None) -> str:
    """Return an answer without the apostrophe that a CSV list put in front of its draft, so that the draft is no formula.

    >>> without_guard("'- one, two", "- one"), without_guard("'- one", None), without_guard("'tis", "Yes")
    ('- one, two', "'- one", "'tis")
    """
    is_guarded = draft is not None and text_cell(draft) != draft
    return response[1:] if is_guarded and draft and response.startswith(f"'{draft[0]}") else response


def is_kept(draft: str | None, response: str) -> bool | None:
    r"""Return whether an answer is the draft as it was, apart from white space; None without a draft.

    >>> is_kept("Yes,  it is.", "Yes, it\nis. "), is_kept("Yes", "No"), is_kept(None, "No")
    (True, False, None)
    """
    return None if draft is None else draft.split() == response.split()


def anchoring(newest: pa.Table, tasks: Mapping[str, str]) -> list[Anchoring]:
    """Count the drafts that were left as they were, by annotator and task. `newest` has the columns of the contract.

    Answers of a model, and answers to prompts that were sent without a draft, are left out.
    """
    names = ("prompt_id", "annotator", "is_draft_kept")
    rows = [
        (annotator or "", tasks.get(prompt_id, ""), kept)
        for prompt_id, annotator, kept in zip(*(newest[name].to_pylist() for name in names), strict=True)
        if kept is not None
    ]
    answers, kept_ones = Counter(row[:2] for row in rows), Counter(row[:2] for row in rows if row[2])
    return [Anchoring(*who, answers[who], kept_ones[who]) for who in sorted(answers)]


def tasks_of(entries: Iterable[Entry]) -> dict[str, str]:
    """Return the task of each prompt, as it was sent out last."""
    return {row["prompt_id"]: row["task"] for entry in entries for row in entry.rows}


def check(kind: str | None, *, is_held_out: bool) -> None:
    """Raise ValueError for an unknown writer of drafts, and for drafts of held-out items."""
    if kind not in (None, "base", "endpoint"):
        raise ValueError(f"--drafts {kind!r} is unknown; expected base or endpoint")
    if kind and is_held_out:
        raise ValueError(
            "--drafts cannot be used with --held-out: models are scored with these answers, and a draft would lead the "
            "annotators to a model's words"
        )
