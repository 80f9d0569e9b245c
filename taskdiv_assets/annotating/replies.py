"""The replies of a model that answers prompts or writes drafts: which of them are answers, and what they cost.

A reply that declines, is empty, was cut, or is too long is no answer. Every reply is stored, also if it is no answer, because it
was paid and is not asked for again. Only a question without a reply (`failed`) is asked again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import pyarrow as pa

from taskdiv_assets.chat.crew import Outcome
from taskdiv_assets.chat.endpoint import Question, Reply
from taskdiv_assets.experiment.annotation_settings import ChatModel
from taskdiv_assets.pools.visible import is_blank
from taskdiv_assets.storage.parts import Parts
from taskdiv_assets.storage.store import Store

ANSWER_CHARS_MAX = 50_000
DETAIL_CHARS = 200
ANSWERED, CUT, FAILED = "answered", "cut", "failed"
SCHEMA = pa.schema([
    pa.field("key", pa.string(), nullable=False),
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("kind", pa.string(), nullable=False),
    pa.field("response", pa.string(), nullable=False),  # empty if the reply is no answer
    pa.field("detail", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("input_tokens", pa.int64()),
    pa.field("output_tokens", pa.int64()),
    pa.field("calls_n", pa.int64(), nullable=False),
    pa.field("asked_at", pa.timestamp("us", "UTC"), nullable=False),
])  # fmt: skip
# A refusal in words is recognized only at the start of a reply, so that an answer that quotes one is kept.
_REFUSAL = re.compile(
    r"(?:i['’]m |i am )?(?:very |so )?(?:sorry|afraid)\b[^.\n]{0,40}\b(?:can(?:no|['’])?t|unable|not able)\b"
    r"|(?:as an ai\b[^.\n]{0,60})?\bi (?:can(?:no|['’])?t|won['’]t|will not|am unable to|am not able to) "
    r"(?:help|assist|answer|provide|comply|fulfil|do that|create|write|discuss)",
    re.IGNORECASE,
)


class ModelReply(NamedTuple):
    """What came of one question about one prompt. The fields are the columns of `SCHEMA`."""

    key: str  # of the question, see `question_of`
    prompt_id: str
    kind: str  # answered, refused, empty, cut (at `max_new_tokens`), too long, not text, or failed (no reply)
    response: str
    detail: str
    model: str
    input_tokens: int | None  # None if the endpoint did not count
    output_tokens: int | None
    calls_n: int
    asked_at: datetime

    @property
    def is_paid(self) -> bool:
        """Whether a reply came. The calls of a failed question may cost money too, but nobody knows how much."""
        return self.kind != FAILED


class Bill(NamedTuple):
    """What the replies of a model cost."""

    replies_n: int
    uncounted_n: int  # replies whose tokens the endpoint did not count, and which have no price of their own
    input_tokens: int
    output_tokens: int
    cost: Decimal | None  # exact, without the uncounted replies; None if the model has no price


def question_of(model: ChatModel, instructions: str, prompt: str) -> Question:
    """Return the question about a prompt. Its key is a hash of all that determines the reply."""
    content = [model.model, model.max_new_tokens, instructions, prompt]
    return Question(hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32], instructions, prompt)


def reply_of(outcome: Outcome, prompt_id: str, model: str) -> ModelReply:
    """Return the stored form of an outcome."""
    reply, now = outcome.reply, datetime.now(UTC)
    if reply is None:
        return ModelReply(
            outcome.key, prompt_id, FAILED, "", _line(outcome.detail), model, None, None, outcome.calls_n, now
        )
    kind, text, detail = _read(reply)
    given, taken = (None, None) if reply.usage is None else (reply.usage.input_tokens, reply.usage.output_tokens)
    return ModelReply(outcome.key, prompt_id, kind, text, _line(detail), model, given, taken, outcome.calls_n, now)


def _line(detail: str) -> str:
    """Return the beginning of a reason as one line, so that an endpoint's text cannot look like a line of ours."""
    return " ".join(detail[: 10 * DETAIL_CHARS].split())[:DETAIL_CHARS]


def _read(reply: Reply) -> tuple[str, str, str]:
    """Return the kind of a reply, its text if it is an answer or a cut one, and otherwise the reason.

    >>> _read(Reply("Four.")), _read(Reply(" ")), _read(Reply("I'm sorry, but I can't help with that."))[0]
    (('answered', 'Four.', ''), ('empty', '', 'the reply is empty'), 'refused')
    """
    text = reply.text.replace("\r\n", "\n").strip()
    if reply.refusal or reply.finish_reason == "content_filter":
        return "refused", "", reply.refusal or "stopped by a content filter"
    if is_blank(text):
        return "empty", "", "the reply is empty"
    if "\0" in text:
        return "not text", "", "the reply holds the character U+0000"
    if len(text) > ANSWER_CHARS_MAX:
        return "too long", "", f"the reply has {len(text):,} characters; expected at most {ANSWER_CHARS_MAX:,}"
    if _REFUSAL.match(text):
        return "refused", "", text
    if reply.finish_reason == "length":
        return CUT, text, "the reply was cut at `max_new_tokens`"
    return ANSWERED, text, ""


def bill(replies: Iterable[ModelReply], model: ChatModel) -> Bill:
    """Return what the replies cost at the prices of `model`."""
    paid = [reply for reply in replies if reply.is_paid]
    counted = [reply for reply in paid if reply.input_tokens is not None]
    given_n = sum(reply.input_tokens or 0 for reply in counted)
    taken_n = sum(reply.output_tokens or 0 for reply in counted)
    uncounted_n = 0 if model.price is not None else len(paid) - len(counted)
    return Bill(len(paid), uncounted_n, given_n, taken_n, model.cost(len(paid), given_n, taken_n))


def kinds(replies: Iterable[ModelReply]) -> dict[str, int]:
    """Return the number of replies of each kind, the most frequent kind first."""
    return dict(Counter(reply.kind for reply in replies).most_common())


def to_table(replies: Sequence[ModelReply]) -> pa.Table:
    return pa.Table.from_pylist([reply._asdict() for reply in replies], schema=SCHEMA)


def from_tables(tables: Iterable[pa.Table]) -> list[ModelReply]:
    """Return the replies in tables with the columns of `SCHEMA`, each once, the oldest first."""
    found: dict[tuple[str, datetime], ModelReply] = {}
    for table in tables:
        for row in table.select(SCHEMA.names).to_pylist():
            found[row["key"], row["asked_at"]] = ModelReply(**{**row, "response": row["response"] or ""})
    return sorted(found.values(), key=lambda reply: (reply.asked_at, reply.key))


def known(replies: Iterable[ModelReply]) -> Mapping[str, ModelReply]:
    """Return the replies by the question's key. Questions without a reply are left out, because they are asked again."""
    return {reply.key: reply for reply in replies if reply.is_paid}


def read_parts(store: Store, *folder: str) -> list[ModelReply]:
    """Return the replies in a folder of the store. Raise ValueError for a file that is no part."""

    def refuse(where: str) -> None:
        raise ValueError(
            f"{where} is not a whole Parquet file of replies; move it away, and its questions are asked again"
        )

    return from_tables(Parts(store, *folder).read(refuse, lambda table: set(SCHEMA.names) <= set(table.column_names)))
