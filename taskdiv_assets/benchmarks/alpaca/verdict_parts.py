"""A judge's verdict on one pair, read from its reply, and as an Arrow table for the store.

Pure: replies in, verdicts out. `endpoint` and `judge` send the questions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from taskdiv_assets.benchmarks.alpaca.prompts import FIRST, SECOND, Pair, digest, is_model_first

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["judged", "refused", "unreadable", "failed"]
ANSWER_CHARS = 2000

# Words allowed around the letter, as in "The better answer is M". No other sentence is read: "M is worse" is not for M.
_LABEL_WORDS = frozenset(
    {"the", "my", "best", "better", "one", "output", "answer", "letter", "model", "response", "option", "choice", "is"}
)
_WORD = re.compile(r"\w+")
_LETTER = re.compile(rf"(?<![\w'’])(?:{FIRST}|{SECOND})(?![\w'’])")
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|cannot|can['’]?t|unable|not able|won['’]t|will not|decline|refuse)\b", re.IGNORECASE
)


class Reply(NamedTuple):
    """A judge's reply."""

    text: str
    finish_reason: str | None = None
    refusal: str | None = None  # the endpoint's own field for it
    top_log_probabilities_nats: tuple[tuple[str, float], ...] = ()  # of the first token: (token, log-probability)


class Verdict(NamedTuple):
    """A judge's verdict on one pair.

    `refused` and `unreadable` are answers that cannot be counted; `failed` means no answer, so the pair is asked again.
    """

    key: str  # of the pair, 32 hex digits
    kind: Kind
    preference: float | None  # 0..1, 1: the model's output is preferred, 0.5: a tie; None unless judged
    answer: str  # raw, at most ANSWER_CHARS characters
    detail: str  # why there is no preference, or why nobody was asked; empty otherwise
    calls_n: int  # requests that were sent


def key_of(pair: Pair) -> str:
    """Return the key of a pair: 32 hex digits of the sha256 over its three texts."""
    return digest(pair)[:32]


def is_final(verdict: Verdict) -> bool:
    """Return True if asking again would be useless: everything except `failed`."""
    return verdict.kind != "failed"


def is_tie(pair: Pair) -> bool:
    """Return True if both outputs are the same, so that nobody needs to be asked."""
    return pair.model_output == pair.reference_output


def tie(pair: Pair) -> Verdict:
    """Return the verdict on two equal outputs."""
    return Verdict(key_of(pair), "judged", 0.5, "", "both outputs are the same; nobody was asked", 0)


def failed(pair: Pair, detail: str, calls_n: int) -> Verdict:
    """Return the verdict on a pair without an answer: neither won nor lost."""
    return Verdict(key_of(pair), "failed", None, "", detail, calls_n)


def verdict_of(pair: Pair, reply: Reply, *, weighted: bool, calls_n: int) -> Verdict:
    """Read a judge's reply; if `weighted`, both letters' probabilities as the first token count instead of the written letter."""
    refusal = reply.refusal or ("stopped by a content filter" if reply.finish_reason == "content_filter" else "")
    if refusal:
        return Verdict(key_of(pair), "refused", None, cut(reply.text), cut(refusal), calls_n)
    if weighted:
        first = probability_of_first(reply.top_log_probabilities_nats)
        problem = f"neither {FIRST} nor {SECOND} is among the first token's likeliest"
    else:
        first, problem = read_letter(reply.text)
    if first is None:
        kind: Kind = "refused" if _REFUSAL.search(reply.text) else "unreadable"
        return Verdict(key_of(pair), kind, None, cut(reply.text), problem, calls_n)
    return Verdict(key_of(pair), "judged", first if is_model_first(pair) else 1 - first, cut(reply.text), "", calls_n)


def read_letter(text: str) -> tuple[float | None, str]:
    r"""Return 1.0 if the first output is preferred, 0.0 if not, with an empty text; or None and what is wrong with the answer.

    >>> read_letter(' "m"\n'), read_letter("Output (M)")
    ((1.0, ''), (0.0, ''))
    >>> read_letter("m or M")
    (None, 'the answer holds several letters')
    """
    if not text.strip():
        return None, "the answer is empty"
    if len(set(_LETTER.findall(text))) > 1:
        return None, "the answer holds several letters"
    for part in (text, text.strip().splitlines()[0]):  # a letter, or a letter and then its reason
        words = _WORD.findall(part)
        letters = [word for word in words if word in (FIRST, SECOND)]
        if letters and all(word in letters or word.lower() in _LABEL_WORDS for word in words):
            return float(letters[0] == FIRST), ""
    return None, f"the answer is neither {FIRST} nor {SECOND}"


def probability_of_first(tokens: Sequence[tuple[str, float]]) -> float | None:
    """Return the probability of the first letter among both, 0..1; None if neither is listed.

    A letter that is missing is less likely than any that is listed, and counts as 0. Tokens that differ from the letter only by
    spaces, quotes or brackets count for it.

    Source: logprob_parser of alpaca-eval 0.6.6, which takes the bare tokens only.
    """
    chances = {FIRST: 0.0, SECOND: 0.0}
    for token, nats in tokens:
        letter = token.strip(" \t\r\n\"'`*()[]▁Ġ")
        if letter in chances:
            chances[letter] += math.exp(nats)
    total = sum(chances.values())
    return chances[FIRST] / total if total > 0 else None


def cut(text: str) -> str:
    """Return the first ANSWER_CHARS characters."""
    return text[:ANSWER_CHARS]


def schema() -> pa.Schema:
    """Return the columns of a table of verdicts."""
    import pyarrow as pa

    columns = {"key": pa.string(), "kind": pa.string(), "preference": pa.float64()}
    columns |= {"answer": pa.string(), "detail": pa.string(), "calls_n": pa.int32()}
    return pa.schema([pa.field(name, kind, nullable=name == "preference") for name, kind in columns.items()])


def to_table(verdicts: Sequence[Verdict]) -> pa.Table:
    """Return verdicts as a table with the columns of `schema`, in their order."""
    import pyarrow as pa

    return pa.Table.from_pylist([verdict._asdict() for verdict in verdicts], schema=schema())


def from_table(table: pa.Table) -> list[Verdict]:
    """Return the verdicts of a stored table.

    Raises:
        ValueError: other columns, or an unknown kind of verdict.
    """
    expected = schema()
    if table.schema.names != expected.names or table.schema.types != expected.types:
        raise ValueError(
            f"a table of verdicts has the columns {', '.join(f'{f.name} {f.type}' for f in table.schema)}; expected "
            f"{', '.join(f'{f.name} {f.type}' for f in expected)}; move the file away to have its verdicts asked again"
        )
    verdicts = [Verdict(**row) for row in table.to_pylist()]
    unknown = {verdict.kind for verdict in verdicts} - set(get_args(Kind))
    if unknown:
        raise ValueError(f"verdicts have the kind {sorted(unknown)}; expected one of {', '.join(get_args(Kind))}")
    return verdicts
