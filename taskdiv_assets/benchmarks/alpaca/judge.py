"""Send the questions about many pairs to a judge in parallel, and pass on the verdicts in small batches as they arrive.

A pair without an answer after all retries (see `crew`) is `failed`: neither won nor lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from taskdiv_assets.benchmarks.alpaca.prompts import Pair, prompt_of
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict, is_tie, key_of, tie, verdict_of
from taskdiv_assets.chat.crew import STOPPED, ClientOptions, Crew, Outcome
from taskdiv_assets.chat.endpoint import Endpoint, Question
from taskdiv_assets.experiment.benchmark_settings import Judge

ANSWER_TOKENS = 16  # enough for "The better answer is M", too few for a judge that explains itself before the letter
KEEP_N = 20
KEEP_S = 5.0
HOPELESS_N = 10

Keep = Callable[[Sequence[Verdict]], None]
Progress = Callable[[int, int], None]


def ask_all(
    judge: Judge,
    pairs: Sequence[Pair],
    *,
    url: str,  # base address of an OpenAI-compatible endpoint, for example https://host/v1
    key: str,  # bearer token, or empty; messages and verdicts never contain it
    keep: Keep,
    progress: Progress | None = None,  # callback that receives (verdicts so far, all verdicts)
    options: ClientOptions | None = None,
) -> list[Verdict]:
    """Return the verdicts on all pairs, in the order of `pairs`.

    A repeated pair is sent once. A pair of equal outputs is a tie and is not sent. `keep` and `progress` run in the caller's
    thread. `keep` receives each verdict once, in batches of at most KEEP_N and about every KEEP_S seconds, also if an exception
    such as Ctrl-C ends the run.

    Raises:
        ValueError: `judge` has no model, the judge cannot answer (for example, wrong key, model or address, or no credit),
            HOPELESS_N questions in a row failed, or the first HOPELESS_N answers were all unreadable.
    """
    if judge.model is None:
        raise ValueError(f"annotator {judge.annotator!r} cannot be asked; import its verdicts, or name a `model`")
    options = options or ClientOptions()
    endpoint = open_endpoint(judge, url, key, options.timeout_s)
    try:
        found = _ask(endpoint, judge, {key_of(pair): pair for pair in pairs}, _Batch(keep), progress, options)
    finally:
        endpoint.close()
    return [found[key_of(pair)] for pair in pairs]


def open_endpoint(judge: Judge, url: str, key: str, timeout_s: float) -> Endpoint:
    """Return the judge's endpoint without a request. Raise ValueError if the address or the key cannot be used."""
    max_tokens = 1 if judge.weighted else ANSWER_TOKENS
    return Endpoint(
        str(judge.model), url=url, key=key, timeout_s=timeout_s, max_tokens=max_tokens, weighted=judge.weighted
    )


def _ask(
    endpoint: Endpoint,
    judge: Judge,
    pairs: Mapping[str, Pair],
    batch: _Batch,
    progress: Progress | None,
    options: ClientOptions,
) -> dict[str, Verdict]:
    found = {key: tie(pair) for key, pair in pairs.items() if is_tie(pair)}
    batch.add(*found.values())
    asked = [_question(key, pair) for key, pair in pairs.items() if key not in found]
    watch = _Watch(endpoint.name)
    crew = Crew(endpoint, asked, parallel=judge.parallel, options=options)
    try:
        while len(found) < len(pairs):
            if (outcome := crew.next_outcome(batch.due_s())) is None:
                batch.flush()
                continue
            verdict = _verdict(outcome, pairs[outcome.key], weighted=judge.weighted)
            found[verdict.key] = verdict
            batch.add(verdict)
            if progress is not None:
                progress(len(found), len(pairs))
            watch.see(verdict)
    finally:
        ended = [one for one in crew.stop() if one.detail != STOPPED]
        batch.add(*(_verdict(one, pairs[one.key], weighted=judge.weighted) for one in ended))
        batch.flush()
    return found


def _question(key: str, pair: Pair) -> Question:
    prompt = prompt_of(pair)
    return Question(key, prompt.system, prompt.user)


def _verdict(outcome: Outcome, pair: Pair, *, weighted: bool) -> Verdict:
    if outcome.reply is None:
        return Verdict(outcome.key, "failed", None, "", outcome.detail, outcome.calls_n)
    return verdict_of(pair, outcome.reply, weighted=weighted, calls_n=outcome.calls_n)


class _Batch:
    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._waiting: list[Verdict] = []
        self._flushed_at = time.monotonic()

    def add(self, *verdicts: Verdict) -> None:
        self._waiting += verdicts
        self._hand_on(KEEP_N)

    def due_s(self) -> float:
        return max(self._flushed_at + KEEP_S - time.monotonic(), 0.0)

    def flush(self) -> None:
        self._hand_on(1)
        self._flushed_at = time.monotonic()

    def _hand_on(self, least_n: int) -> None:
        """While at least `least_n` verdicts wait, pass the oldest ones to `keep`, at most KEEP_N in one call.

        If a call of `keep` raises an exception, the verdicts of this call are not passed again.
        """
        while len(self._waiting) >= least_n:
            verdicts, self._waiting = self._waiting[:KEEP_N], self._waiting[KEEP_N:]
            self._flushed_at = time.monotonic()
            self._keep(verdicts)


class _Watch:
    """A counter that stops the run if the endpoint gives no answers or the judge's answers cannot be read."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._failures_n = 0
        self._unreadable_n = 0
        self._has_answered = False

    def see(self, verdict: Verdict) -> None:
        self._failures_n = self._failures_n + 1 if verdict.kind == "failed" else 0
        self._unreadable_n += verdict.kind == "unreadable"
        self._has_answered |= verdict.kind in ("judged", "refused")
        if self._failures_n == HOPELESS_N:
            raise ValueError(
                f"{self._who} gave no answer to {HOPELESS_N} questions in a row (the last time: {verdict.detail}); "
                "run again when it answers, verdicts so far are kept"
            )
        if self._unreadable_n == HOPELESS_N and not self._has_answered:
            raise ValueError(
                f"{self._who} gave {HOPELESS_N} answers, none of which could be read (the last one: {verdict.detail}: "
                f"{verdict.answer[:60]!r}); expected a single letter, so choose another `model`"
            )
