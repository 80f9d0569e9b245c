"""Threads that send questions to one endpoint and repeat a question if a retry can help.

The threads are daemons, and one event ends all their pauses. So `Crew.stop` never waits for a pause, and for an open request only
as long as the caller says.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from taskdiv_assets.chat.endpoint import Endpoint, NoAnswerError, Question, Reply, StopAskingError

MAX_BACKOFF_S = 30.0
SPENT = "the calls are used up"
STOPPED = "stopped before a further try"
MAX_RETRY_AFTER_S = 120.0  # if an endpoint requests a longer pause, the question has failed


class ClientOptions(NamedTuple):
    """Timeout and retry settings of the client. They do not change a verdict."""

    timeout_s: float = 60.0  # the longest time without data from the endpoint
    retries_n: int = 4  # tries after the first one
    backoff_s: float = 1.0  # pause before the first retry; doubled before each further one


class Outcome(NamedTuple):
    """What came of one question."""

    key: str
    reply: Reply | None  # None if no call gave a readable answer
    detail: str  # the reason if there is no reply; `SPENT` if a further call would have been too many; `STOPPED`
    calls_n: int  # calls for this question in this run


class Crew:
    """A group of up to `parallel` threads that send the questions in order. All threads together make at most `calls_n` calls."""

    def __init__(
        self,
        endpoint: Endpoint,
        questions: Sequence[Question],
        *,
        parallel: int,
        options: ClientOptions,
        calls_n: int | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._options = options
        self._left_n, self._lock = calls_n, threading.Lock()
        self._stopped = threading.Event()
        self._waiting: queue.SimpleQueue[Question] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Outcome | Exception] = queue.SimpleQueue()
        for question in questions:
            self._waiting.put(question)
        names = [f"asking-{number}" for number in range(min(parallel, len(questions)))]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def next_outcome(self, timeout_s: float) -> Outcome | None:
        """Return the next outcome, or None if none comes within `timeout_s` seconds.

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

    def stop(self, wait_s: float = 0.0) -> Iterator[Outcome]:
        """Stop sending questions, and yield the outcomes that have come but that `next_outcome` has not returned.

        Open requests get `wait_s` seconds to end. As in any generator, nothing happens before the first iteration. Outcomes that
        come later are lost.
        """
        self._stopped.set()
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
        while not self._results.empty():
            if isinstance(result := self._results.get(), Outcome):
                yield result

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                self._results.put(self._outcome(self._waiting.get_nowait()))
        except queue.Empty:
            return
        except Exception as error:  # `next_outcome` raises it in the caller's thread
            self._results.put(error)

    def _outcome(self, question: Question) -> Outcome:
        """Return the outcome of one question, after retries if necessary; `STOPPED` if the crew was stopped in a pause."""
        # The hash shortens each pause by up to a quarter, so that threads do not all retry at the same time.
        shortened = 1 - hashlib.sha256(question.key.encode()).digest()[0] / 0xFF / 4
        growing = wait_exponential(multiplier=self._options.backoff_s * shortened, max=MAX_BACKOFF_S * shortened)
        retrying = Retrying(
            retry=retry_if_exception(_is_worth_repeating),
            stop=stop_after_attempt(self._options.retries_n + 1),
            wait=lambda state: growing(state) if (asked_s := _asked_pause_s(state)) is None else asked_s,
            sleep=self._pause,
            reraise=True,
        )
        try:
            reply = retrying(self._ask, question)
        except NoAnswerError as trouble:
            return Outcome(question.key, None, trouble.detail, retrying.statistics["attempt_number"])
        except _SpentError:
            return Outcome(question.key, None, SPENT, retrying.statistics["attempt_number"] - 1)
        except _StoppedError:
            return Outcome(question.key, None, STOPPED, retrying.statistics["attempt_number"] - 1)
        return Outcome(question.key, reply, "", retrying.statistics["attempt_number"])

    def _ask(self, question: Question) -> Reply:
        with self._lock:
            if self._left_n == 0:
                raise _SpentError
            self._left_n = None if self._left_n is None else self._left_n - 1
        return self._endpoint.ask(question)

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise _StoppedError


class _StoppedError(Exception): ...


class _SpentError(Exception): ...


def _is_worth_repeating(error: BaseException) -> bool:
    return isinstance(error, NoAnswerError) and error.is_repeatable and (error.wait_s or 0) <= MAX_RETRY_AFTER_S


def _asked_pause_s(state: RetryCallState) -> float | None:
    trouble = state.outcome.exception() if state.outcome is not None else None
    return trouble.wait_s if isinstance(trouble, NoAnswerError) else None
