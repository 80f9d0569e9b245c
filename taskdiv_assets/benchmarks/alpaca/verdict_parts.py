"""Make verdicts on pairs from a judge's replies, and convert them to a table and back. This module does no input or output."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import pyarrow as pa

from taskdiv_assets.benchmarks.alpaca.prompts import FIRST, SECOND, Pair, digest, is_model_first
from taskdiv_assets.chat.endpoint import Reply

Kind = Literal["judged", "refused", "unreadable", "failed"]
ANSWER_CHARS = 2000

# Words allowed around the letter, as in "The better answer is M". A reply with other words, such as "M is worse", is unreadable.
_LABEL_WORDS = frozenset(
    {"the", "my", "best", "better", "one", "output", "answer", "letter", "model", "response", "option", "choice", "is"}
)
_WORD = re.compile(r"\w+")
_LETTER = re.compile(rf"(?<![\w'’])(?:{FIRST}|{SECOND})(?![\w'’])")
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|cannot|can['’]?t|unable|not able|won['’]t|will not|decline|refuse)\b", re.IGNORECASE
)


class Verdict(NamedTuple):
    """A judge's verdict on one pair."""

    key: str  # of the pair, 32 hex digits
    kind: Kind  # refused and unreadable: the reply has no preference; failed: no reply came, so the pair is asked again
    preference: float | None  # 0..1; 1: the model's output is preferred; 0.5: a tie; None unless the kind is `judged`
    answer: str  # the reply's text, at most ANSWER_CHARS characters
    detail: str  # reason why there is no preference or no judge was asked; otherwise empty
    calls_n: int  # requests that were sent


def key_of(pair: Pair) -> str:
    """Return the key of a pair: 32 hex digits of the SHA-256 of its three texts."""
    return digest(pair)[:32]


def is_final(verdict: Verdict) -> bool:
    """Return True for every kind except `failed`. Only a pair with a failed verdict is sent to the judge again."""
    return verdict.kind != "failed"


def is_tie(pair: Pair) -> bool:
    return pair.model_output == pair.reference_output


def tie(pair: Pair) -> Verdict:
    return Verdict(key_of(pair), "judged", 0.5, "", "both outputs are the same; nobody was asked", 0)


def verdict_of(pair: Pair, reply: Reply, *, weighted: bool, calls_n: int) -> Verdict:
    """Return the verdict that a judge's reply contains.

    Each output has a letter: m or M. If `weighted`, the preference is p / (p + q). p is the probability that the first token is
    the letter of the model's output, and q the probability that it is the other letter. Otherwise the preference is 1 if the
    judge wrote the letter of the model's output, and 0 if it wrote the other letter.
    """
    key, answer = key_of(pair), reply.text[:ANSWER_CHARS]
    refusal = reply.refusal or ("stopped by a content filter" if reply.finish_reason == "content_filter" else "")
    if refusal:
        return Verdict(key, "refused", None, answer, refusal[:ANSWER_CHARS], calls_n)
    if weighted:
        first = probability_of_first(reply.top_log_probabilities_nats)
        problem = f"neither {FIRST} nor {SECOND} is among the first token's likeliest"
    else:
        first, problem = read_letter(reply.text)
    if first is None:
        return Verdict(key, "refused" if _REFUSAL.search(reply.text) else "unreadable", None, answer, problem, calls_n)
    return Verdict(key, "judged", first if is_model_first(pair) else 1 - first, answer, "", calls_n)


def read_letter(text: str) -> tuple[float | None, str]:
    r"""Return (1.0, "") if the reply prefers the first output, and (0.0, "") if it prefers the second one.

    Return (None, reason) if the reply is unreadable.

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
    """Return p(m) / (p(m) + p(M)), where p(m) is the probability that the first token is m. None if both are 0.

    `tokens` has each token with the natural logarithm of its probability. A letter that is not in `tokens` counts as 0, as it
    is less likely than all tokens there. Spaces, quotes and brackets around a letter are ignored; the source, logprob_parser of
    alpaca-eval 0.6.6, accepts only the bare tokens.
    """
    chances = {FIRST: 0.0, SECOND: 0.0}
    for token, nats in tokens:
        letter = token.strip(" \t\r\n\"'`*()[]▁Ġ")
        if letter in chances:
            chances[letter] += math.exp(nats)
    total = sum(chances.values())
    return chances[FIRST] / total if total > 0 else None


def schema() -> pa.Schema:
    types = {"preference": pa.float64(), "calls_n": pa.int32()}
    return pa.schema([(name, types.get(name, pa.string()), name == "preference") for name in Verdict._fields])


def to_table(verdicts: Sequence[Verdict]) -> pa.Table:
    return pa.Table.from_pylist([verdict._asdict() for verdict in verdicts], schema=schema())


def from_table(table: pa.Table) -> list[Verdict]:
    """Return the verdicts of a stored table; raise ValueError if the table has other columns or an unknown kind of verdict."""
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
