"""Progress of long work, shown on Dagster's run page and in the terminal of `taskdiv run`.

A step may report its progress after every item. Most reports write nothing, so the event log stays small.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

INTERVAL_S = 5.0
TERMINAL_INTERVAL_S = 0.3
SHORT_S = 1.0  # shorter work logs no final line
MEASURED_N, LONG_S = 2, 60.0  # after so many measured batches, the time of work that is longer than this is announced

# Callback with the arguments (what, done, total, other information, seconds left). `taskdiv run`'s worker processes set it.
_terminal: Callable[[str, int, int, str, float | None], None] | None = None
_notes: Callable[[str], None] | None = None  # callback with one argument: a sentence


def listen(
    hook: Callable[[str, int, int, str, float | None], None] | None, note_hook: Callable[[str], None] | None = None
) -> None:
    """Set this process's callbacks for the terminal: for progress, and for sentences of `note`. Dagster's log is unaffected."""
    global _terminal, _notes
    _terminal, _notes = hook, note_hook


def note(sentence: str) -> None:
    """Send a sentence to the terminal, such as the reason why a step waits. If `listen` has set no callback, do nothing."""
    if _notes is not None:
        _notes(sentence)


class _Call(NamedTuple):
    done: int
    total: int
    also: str
    at_s: float
    share: float | None  # share of the work that is done; None if all items take about the same time


@dataclass
class Progress:
    """Reporter that logs the progress of a step every few seconds and at the end, and shows it in the terminal.

    Work shorter than `SHORT_S` is not logged. The rate counts only items that were done after the first call, without the items
    of an interrupted run. If items take different times, as texts of different lengths do, the caller passes the share of the
    work that is done. After `MEASURED_N` measured batches, a sentence in the terminal announces the expected time of the whole
    work, if this time is at least `LONG_S`. If the work may end before `total` items are done, use the reporter as a context
    manager. The end of the block is then the end of the work.
    """

    what: str
    log: Callable[[str], None]
    unit: str = "items"
    started: float = field(default_factory=time.monotonic)
    before_n: int = 0  # items done by an interrupted run; may increase between calls, when stored parts are found
    # Time of the first call, and the items (without `before_n`) and the share of the work that were done at that time.
    _first: tuple[float, int, float] | None = None
    _measured_n: int = 0  # calls after the first
    _is_announced: bool = False
    _last: _Call | None = None
    _told_s: float = 0.0
    _told_terminal_s: float = 0.0
    _is_ended: bool = False

    def __call__(self, done: int, total: int, also: str = "", share: float | None = None) -> None:
        """Record that `done` of `total` items are done. Report this if the last report is old enough. Do nothing after the end.

        `also` is text to add to the report. `share` (0 to 1) is the share of this run's work that is done, by its expected time.
        """
        if self._is_ended:
            return
        self._last = now = _Call(done, total, also, time.monotonic(), share)
        if self._first is None:
            self._first = (now.at_s, done - self.before_n, share or 0.0)
        else:
            self._measured_n += 1
        if done >= total:
            self._end(now)
            return
        self._announce(now)
        if now.at_s - self._told_terminal_s >= TERMINAL_INTERVAL_S:
            self._tell_terminal(now)
        if now.at_s - max(self._told_s, self.started) >= INTERVAL_S:
            self._tell(now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report the end of the work, if there was a call and no call reported the end. After an error, only hide the bar."""
        if self._last is None or self._is_ended:
            return
        last = self._last._replace(at_s=time.monotonic())
        if kind is None:
            self._end(last)
        else:
            self._tell_terminal(last._replace(done=last.total))  # the terminal removes a bar that is complete

    def _end(self, now: _Call) -> None:
        self._is_ended = True
        self._tell_terminal(now._replace(done=now.total))
        if now.at_s - self.started >= SHORT_S:
            self._tell(now)

    def _tell_terminal(self, now: _Call) -> None:
        self._told_terminal_s = now.at_s
        if _terminal is not None:
            _terminal(self.what, now.done, now.total, now.also, self._left_s(now))

    def _announce(self, now: _Call) -> None:
        """Announce in the terminal, once, the time of the whole work if it is at least `LONG_S`. The log shows the time left."""
        left_s = self._left_s(now)
        if self._is_announced or self._first is None or left_s is None or self._measured_n < MEASURED_N:
            return
        self._is_announced = True
        whole_s = now.at_s - self._first[0] + left_s
        if whole_s < LONG_S:
            return
        note(f"{self.what}: about {spell(whole_s)} for one process, by its first {self._measured_n} batches")

    def _tell(self, now: _Call) -> None:
        self._told_s = now.at_s
        elapsed_s = now.at_s - self.started if self._is_ended else None
        line = describe(self.what, self.unit, now.done, now.total, self._rate(now), elapsed_s, self._left_s(now))
        self.log(f"{line}, {now.also}" if now.also else line)

    def _rate(self, now: _Call) -> float | None:
        if self._first is None:
            return None
        first_s, first_n, _ = self._first
        done_n, seconds = now.done - self.before_n - first_n, now.at_s - first_s
        return done_n / seconds if done_n > 0 and seconds > 0 else None

    def _left_s(self, now: _Call) -> float | None:
        if now.done >= now.total or self._first is None:
            return None
        if now.share is None:
            per_s = self._rate(now)
            return None if per_s is None else (now.total - now.done) / per_s
        first_s, _, first_share = self._first
        grown = now.share - first_share
        return (now.at_s - first_s) * (1 - now.share) / grown if grown > 0 else None


def describe(
    what: str,
    unit: str,
    done: int,
    total: int,
    per_s: float | None = None,
    took_s: float | None = None,
    left_s: float | None = None,
) -> str:
    """Return one line of progress. `took_s` (time taken, in seconds) has priority over `left_s` (time left, in seconds).

    >>> describe("scoring", "prompts", 50, 200, 5.0, left_s=30.0)
    'scoring: 50 of 200 prompts (25%), 5.0 prompts/s, 30 s left'
    >>> describe("training", "steps", 1, 2000, 0.04, left_s=49_975)
    'training: 1 of 2,000 steps (0%), 0.04 steps/s, 13.9 h left'
    >>> describe("ranking", "seeds", 1, 1, took_s=400)
    'ranking: 1 of 1 seeds (100%), took 6.7 min'
    """
    percent = min(100 * done // total, 100) if total else 100  # rounded down: 100 means that everything is done
    of = f" {unit}" if unit else ""
    parts = [f"{what}: {done:,} of {total:,}{of} ({percent}%)"]
    if per_s is not None:
        parts.append(f"{per_s:,.1f}{of}/s" if per_s >= 1 else f"{per_s:.2g}{of}/s")
    if took_s is not None:
        parts.append(f"took {spell(took_s)}")
    elif left_s is not None:
        parts.append(f"{spell(left_s)} left")
    return ", ".join(parts)


def spell(seconds: float) -> str:
    """Return a duration in seconds as text with a suitable unit.

    >>> [spell(seconds) for seconds in (0.2, 90, 150, 3000, 10_000, 1e6)]
    ['0 s', '90 s', '2.5 min', '50 min', '2.8 h', '12 days']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.{1 if seconds < 600 else 0}f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
