"""Progress of long work, told in two places: Dagster's run page, and the terminal of `taskdiv run`.

Work calls `progress(done, total)` as often as it likes; what is passed on is throttled, so that an event log is not
flooded. The terminal listens through a hook that its worker processes set once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

INTERVAL_S = 5.0
TERMINAL_INTERVAL_S = 0.3

# Called with (what, done, total, what else is worth knowing) in this process; set by the worker processes of `taskdiv run`.
_terminal: Callable[[str, int, int, str], None] | None = None


def listen(hook: Callable[[str, int, int, str], None] | None) -> None:
    """Set who in this process hears of progress besides Dagster."""
    global _terminal
    _terminal = hook


@dataclass
class Progress:
    """Passes on how far a step is: the share done, the rate, the time left, every few seconds and at the end."""

    what: str
    log: Callable[[str], None]
    unit: str = "items"
    started: float = field(default_factory=time.monotonic)
    before_n: int = 0  # done by an interrupted run: no part of this one's rate
    _told_s: float = 0.0
    _told_terminal_s: float = 0.0

    def __call__(self, done: int, total: int, also: str = "") -> None:
        """Say that `done` of `total` are done, and what else is worth knowing, such as another rate."""
        now = time.monotonic()
        is_end = done >= total
        if _terminal is not None and (is_end or now - self._told_terminal_s >= TERMINAL_INTERVAL_S):
            self._told_terminal_s = now
            _terminal(self.what, done, total, also)
        elapsed_s = now - self.started
        if (is_end and elapsed_s >= 1) or now - max(self._told_s, self.started) >= INTERVAL_S:
            self._told_s = now
            line = describe(self.what, self.unit, done, total, elapsed_s, self.before_n)
            self.log(f"{line}, {also}" if also else line)


def describe(what: str, unit: str, done: int, total: int, elapsed_s: float, before_n: int = 0) -> str:
    """One line of progress.

    >>> describe("scoring", "prompts", 50, 200, 10.0)
    'scoring: 50 of 200 prompts (25%), 5.0 prompts/s, 30 s left'
    >>> describe("scoring", "prompts", 50, 200, 10.0, before_n=40)
    'scoring: 50 of 200 prompts (25%), 1.0 prompts/s, 150 s left'
    """
    rate = (done - before_n) / elapsed_s if elapsed_s > 0 else 0.0
    left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
    return f"{what}: {done:,} of {total:,} {unit} ({done / max(total, 1):.0%}), {rate:,.1f} {unit}/s{left}"
