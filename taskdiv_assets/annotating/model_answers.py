"""Answers by a model: a stated share of the prompts of lists is sent to an endpoint instead of to people.

A hash of the prompt decides whether it belongs to the model's share, so a prompt keeps its annotator at every budget. Replies are
stored one by one in `model_replies/` (see `asking`). At the end, one immutable file `annotations/model-<hash>.parquet` takes
all of them, and the parts are removed. A reply that is no answer has an empty response in this file, which no reader counts.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import data_contracts
from taskdiv_assets.annotating import ledger
from taskdiv_assets.annotating.asking import OnProgress, ask, open_endpoint
from taskdiv_assets.annotating.exporting import LOCK
from taskdiv_assets.annotating.replies import (
    ANSWERED,
    SCHEMA,
    Bill,
    ModelReply,
    bill,
    from_tables,
    known,
    question_of,
    read_parts,
    to_table,
)
from taskdiv_assets.chat.crew import ClientOptions
from taskdiv_assets.chat.endpoint import Question
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.annotation_settings import Annotator
from taskdiv_assets.graph import fixed_tasks
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.known_answers import MODEL_FILE, imported_table, newest_annotations
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import copies
from taskdiv_assets.storage.locks import hold
from taskdiv_assets.storage.parts import Parts
from taskdiv_assets.storage.store import Store

FOLDER = "model_replies"
ASK_LOCK = "annotations-ask"  # held during the calls; exports and imports may run meanwhile
SHARE_DIGITS = 15  # hex digits of the hash that is compared with the share


class Asked(NamedTuple):
    """Result of one `taskdiv annotations ask`."""

    share_n: int  # unanswered prompts of the lists that belong to the model's share
    out_n: int  # of these: sent to people earlier, and therefore not sent to the model
    known_n: int  # of these: the model has replied before
    replies: Sequence[ModelReply]  # of this run
    answers_n: int  # answers that were stored by this run
    open_n: int  # prompts that the limit of calls left open
    calls_left_n: int
    bill: Bill  # of this run


def ask_annotator(
    lineage: Lineage,
    cells: Sequence[Cell],
    *,
    options: ClientOptions | None = None,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Asked:
    """Ask the model of `annotation: {annotator: …}` for the answers to its share of the lists, and store them.

    Prompts that people have on an exported list are left out. The first prompts of each list are asked first, so a limit of calls
    leaves the last ones open.

    Raises:
        ValueError: the file names no annotator, the endpoint cannot be used, or it gives no answers. Replies so far are stored.
        StaleInputError: a cell's allocation is missing or stale.
    """
    experiment, store = lineage.experiment, lineage.store
    annotator = _annotator(experiment)
    open_endpoint(annotator, options or ClientOptions()).close()  # a mistake in the address is said first
    with hold(store, ASK_LOCK, on_wait=on_wait):
        shared = {
            one: text for one, text in open_prompts(lineage.again(), cells).items() if is_in_share(one, annotator)
        }
        went_out = ledger.sent_prompt_ids(ledger.of_kept_prompts(ledger.entries(store), copies.kept_of(store)))
        instructions = experiment.annotation.instructions
        mine = {one: text for one, text in shared.items() if one not in went_out}
        questions = {one: question_of(annotator, instructions, text) for one, text in mine.items()}
        before = all_replies(store)
        has_reply = known(before)
        asked = {prompt_id: one for prompt_id, one in questions.items() if one.key not in has_reply}
        left_n = annotator.calls - sum(reply.calls_n for reply in before)
        try:
            replies = ask(store, FOLDER, annotator, asked, left_n, options=options, on_progress=on_progress)
        finally:
            answers_n = store_replies(store, questions, on_wait=on_wait)
    has_reply = known([*before, *replies])
    return Asked(
        share_n=len(shared),
        out_n=len(shared) - len(questions),
        known_n=len(questions) - len(asked),
        replies=replies,
        answers_n=answers_n,
        open_n=sum(one.key not in has_reply for one in questions.values()),
        calls_left_n=max(left_n - sum(reply.calls_n for reply in replies), 0),
        bill=bill(replies, annotator),
    )


def _annotator(experiment: Experiment) -> Annotator:
    if experiment.annotation.annotator is None:
        raise ValueError(
            f"{experiment.name} names no model that answers; add `annotation: {{annotator: {{model: NAME, share: 0.2, calls: "
            "500}}` to its file, and run it with --replace"
        )
    return experiment.annotation.annotator


def open_prompts(lineage: Lineage, cells: Sequence[Cell]) -> dict[str, str]:
    """Return the prompts of cells that have no answer, by prompt_id, in the order of their smallest rank.

    The allocations are read instead of the lists, which are out of date after every answer. Raise StaleInputError if an
    allocation is missing or stale.
    """
    answers, ranks = lineage.answers, dict[str, int]()
    for cell in cells:
        lineage.fresh(Unit("allocation", cell.key))
        for row in lineage.store.read_table("allocation", cell.key).table.select(["prompt_id", "rank"]).to_pylist():
            if answers[row["prompt_id"]] is None:
                ranks[row["prompt_id"]] = min(ranks.get(row["prompt_id"], row["rank"]), row["rank"])
    pool = lineage.store.read_table("raw_pool").table
    prompts = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    return {one: prompts[one] for one in sorted(ranks, key=lambda one: (ranks[one], one))}


def is_in_share(prompt_id: str, annotator: Annotator) -> bool:
    """Return True if a prompt belongs to the model's share. A larger share keeps all prompts of a smaller one."""
    place = int(hashlib.sha256(f"annotator {prompt_id}".encode()).hexdigest()[:SHARE_DIGITS], 16)
    return place < annotator.share * float(16**SHARE_DIGITS)


def file_replies(store: Store) -> list[ModelReply]:
    """Return the replies in the files of `annotations/`."""
    return from_tables(_files(store))


def all_replies(store: Store) -> list[ModelReply]:
    """Return every reply of an annotating model, also those that an interrupted run left in parts."""
    return from_tables([*_files(store), to_table(read_parts(store, FOLDER))])


def store_replies(
    store: Store, questions: Mapping[str, Question], *, on_wait: Callable[[str], None] | None = None
) -> int:
    """Move the replies in parts to one file of `annotations/`, and return its number of answers; 0 if there is no new reply.

    `questions` are the questions by prompt_id. Prompts with the same question share the reply. The move is idempotent: if it was
    interrupted after the file was written, the same replies are not written again.
    """
    with hold(store, LOCK, on_wait=on_wait):
        stored = file_replies(store)
        seen = {(reply.key, reply.asked_at) for reply in stored}
        new = [reply for reply in read_parts(store, FOLDER) if (reply.key, reply.asked_at) not in seen]
        newest = newest_annotations(store)
        answered = {*newest["prompt_id"].to_pylist(), *(reply.prompt_id for reply in new)}
        replied = known([*stored, *new])
        new += [
            replied[question.key]._replace(prompt_id=prompt_id)
            for prompt_id, question in questions.items()
            if prompt_id not in answered and question.key in replied and replied[question.key].kind == ANSWERED
        ]
        if new:
            fixed_tasks.fix(store)
            _put(store, new, max(newest["imported_at"].to_pylist(), default=datetime.min.replace(tzinfo=UTC)))
        Parts(store, FOLDER).remove()
    return sum(reply.kind == ANSWERED for reply in new)


def _files(store: Store) -> list[pa.Table]:
    names = [name for name in store.names("annotations") if name.startswith(MODEL_FILE)]
    return [imported_table(store, name) for name in names]


def _put(store: Store, replies: Sequence[ModelReply], latest: datetime) -> None:
    """Store replies as one immutable file with the columns of the contract `annotations`, and those of `replies.SCHEMA`."""
    table = to_table(replies)
    digest = hashlib.sha256(str(table.to_pylist()).encode()).hexdigest()
    batch, now = f"{MODEL_FILE}{digest}", max(datetime.now(UTC), latest + timedelta(microseconds=1))
    rows_n = table.num_rows
    is_answer = [reply.kind == ANSWERED for reply in replies]
    columns: dict[str, object] = {name: table[name] for name in SCHEMA.names}
    columns |= {"response": [reply.response if good else "" for reply, good in zip(replies, is_answer, strict=True)]}
    columns |= {"annotator": table["model"], "source": ["model"] * rows_n, "row": list(range(rows_n))}
    columns |= {"imported_at": [now] * rows_n, "batch": [batch] * rows_n}
    schema = data_contracts.load("annotations").arrow_schema
    more = pa.schema([field for field in SCHEMA if field.name not in schema.names])
    columns |= {name: [None] * rows_n for name in schema.names if name not in columns}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.unify_schemas([schema, more])), buffer)
    store.put(buffer.getvalue(), "annotations", f"{batch}.parquet")
