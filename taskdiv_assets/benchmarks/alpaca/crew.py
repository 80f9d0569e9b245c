"""Threads that send questions to one endpoint and repeat a question if a retry can help.

The threads are daemons, and one event ends all their pauses. So `Crew.stop` waits neither for a pause nor for an open request.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from taskdiv_assets.benchmarks.alpaca.endpoint import Endpoint, NoAnswerError, StopAskingError
from taskdiv_assets.benchmarks.alpaca.prompts import Pair, prompt_of
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict, key_of, verdict_of

MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 120.0  # if an endpoint requests a longer pause, the question has failed


class ClientOptions(NamedTuple):
    """Timeout and retry settings of the client. They do not change a verdict."""

    timeout_s: float = 60.0  # the longest time without data from the endpoint
    retries_n: int = 4  # tries after the first one
    backoff_s: float = 1.0  # pause before the first retry; doubled before each further one


class Crew:
    """A group of up to `parallel` threads that send one question for each pair, in the order of `pairs`."""

    def __init__(
        self, endpoint: Endpoint, pairs: Sequence[Pair], *, weighted: bool, parallel: int, options: ClientOptions
    ) -> None:
        self._endpoint = endpoint
        self._weighted = weighted
        self._options = options
        self._stopped = threading.Event()
        self._waiting: queue.SimpleQueue[Pair] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Verdict | Exception] = queue.SimpleQueue()
        for pair in pairs:
            self._waiting.put(pair)
        for number in range(min(parallel, len(pairs))):
            threading.Thread(target=self._work, name=f"judge-{number}", daemon=True).start()

    def next_verdict(self, timeout_s: float) -> Verdict | None:
        """Return the next verdict, or None if none comes within `timeout_s` seconds.

        Raises:
            ValueError: the endpoint will answer no question. Any other error of a thread is raised unchanged.
        """
        try:
            result = self._results.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(result, StopAskingError):
            raise ValueError(str(result))
        if isinstance(result, Exception):
            raise result
        return result

    def stop(self) -> Iterator[Verdict]:
        """Stop sending questions, and yield the verdicts that have come but that `next_verdict` has not returned.

        As in any generator, nothing happens before the first iteration. Verdicts that come later are lost.
        """
        self._stopped.set()
        while not self._results.empty():
            if isinstance(result := self._results.get(), Verdict):
                yield result

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                if (verdict := self._judged(self._waiting.get_nowait())) is not None:
                    self._results.put(verdict)
        except queue.Empty:
            return
        except Exception as error:  # `next_verdict` raises it in the caller's thread
            self._results.put(error)

    def _judged(self, pair: Pair) -> Verdict | None:
        """Return the verdict on one pair, after retries if necessary; None if the crew was stopped before an answer came."""
        # The pair's key shortens each pause by up to a quarter, so that threads do not all retry at the same time.
        shortened = 1 - int(key_of(pair)[:4], 16) / 0xFFFF / 4
        growing = wait_exponential(multiplier=self._options.backoff_s * shortened, max=MAX_BACKOFF_S * shortened)
        retrying = Retrying(
            retry=retry_if_exception(_is_worth_repeating),
            stop=stop_after_attempt(self._options.retries_n + 1),
            wait=lambda state: growing(state) if (asked_s := _asked_pause_s(state)) is None else asked_s,
            sleep=self._pause,
            reraise=True,
        )
        try:
            reply = retrying(self._endpoint.ask, prompt_of(pair))
        except NoAnswerError as trouble:
            return Verdict(key_of(pair), "failed", None, "", trouble.detail, retrying.statistics["attempt_number"])
        except _StoppedError:
            return None
        return verdict_of(pair, reply, weighted=self._weighted, calls_n=retrying.statistics["attempt_number"])

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise _StoppedError


class _StoppedError(Exception): ...


def _is_worth_repeating(error: BaseException) -> bool:
    return isinstance(error, NoAnswerError) and error.is_repeatable and (error.wait_s or 0) <= MAX_RETRY_AFTER_S


def _asked_pause_s(state: RetryCallState) -> float | None:
    trouble = state.outcome.exception() if state.outcome is not None else None
    return trouble.wait_s if isinstance(trouble, NoAnswerError) else None
