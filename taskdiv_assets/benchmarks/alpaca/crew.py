"""Threads that put questions to one endpoint, each repeated until it has an answer or there is no hope for it.

Threads are daemons and wait on one event: whoever stops the crew, by Ctrl-C too, does not wait for a pause or an open call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from taskdiv_assets.benchmarks.alpaca.endpoint import Endpoint, NoAnswerError, StopAskingError
from taskdiv_assets.benchmarks.alpaca.prompts import Pair, prompt_of
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict, failed, key_of, verdict_of

MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 120.0  # an endpoint that wants a longer pause is not waited for


class ClientOptions(NamedTuple):
    """How patient the client is; none of it changes a verdict."""

    timeout_s: float = 60.0  # without a byte from the endpoint
    retries_n: int = 4  # after the first try
    backoff_s: float = 1.0  # before the first retry, doubled before each further one


class Crew:
    """Asks about pairs in their order, several at once.

    Args:
        endpoint: who is asked.
        pairs: what about.
        weighted: see `verdict_of`.
        parallel: threads.
        options: time-out and retries.
    """

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
        """The next verdict that comes, None if none did within the time.

        Raises:
            ValueError: no question will be answered.
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
        """Ask no more, and give what has come meanwhile."""
        self._stopped.set()
        while not self._results.empty():
            result = self._results.get()
            if isinstance(result, Verdict):
                yield result

    def _work(self) -> None:
        """One thread: pairs until there are none, or the crew is stopped."""
        try:
            while not self._stopped.is_set():
                verdict = self._judged(self._waiting.get_nowait())
                if verdict is not None:
                    self._results.put(verdict)
        except queue.Empty:
            return
        except Exception as error:  # to be raised where the verdicts are awaited
            self._results.put(error)

    def _judged(self, pair: Pair) -> Verdict | None:
        """The verdict on one pair after as many tries as it takes; None if the crew was stopped meanwhile."""
        prompt = prompt_of(pair)
        for try_n in range(1, self._options.retries_n + 2):
            try:
                reply = self._endpoint.ask(prompt)
            except NoAnswerError as trouble:
                pause_s = self._pause_s(pair, trouble, try_n)
                if pause_s is None:
                    return failed(pair, trouble.detail, try_n)
                if self._stopped.wait(pause_s):
                    return None
            else:
                return verdict_of(pair, reply, weighted=self._weighted, calls_n=try_n)
        raise RuntimeError("unreachable: the last try either answers or fails")

    def _pause_s(self, pair: Pair, trouble: NoAnswerError, try_n: int) -> float | None:
        """How long to wait before the next try; None if there should be none.

        What the endpoint asks for, or a doubling time, shortened by up to a quarter so that threads do not come back all at
        once; by how much follows from the pair's key.
        """
        if not trouble.is_repeatable or try_n > self._options.retries_n:
            return None
        if trouble.wait_s is not None:
            return trouble.wait_s if trouble.wait_s <= MAX_RETRY_AFTER_S else None
        shortened = 1 - int(key_of(pair)[:4], 16) / 0xFFFF / 4
        return min(self._options.backoff_s * 2.0 ** (try_n - 1), MAX_BACKOFF_S) * shortened
