"""What fits into memory: batches are halved where it runs out, and later ones are no larger than what went through.

Down to one step of rows (`batching.RowSteps`) that changes no number, where the number of rows is free. Below, the last digits
of a prompt's statistics may depend on its place in the batch, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.batching import Group

Result = TypeVar("Result")
# Limit and use of the memory of this container, and what of the use can be given back: version 2 of control groups, then 1.
CONTROL_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
CPU_MESSAGES = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


class Room:
    """How many tokens a batch may hold, prompts and continuations together; without limit until memory ran out once.

    Args:
        device: where memory may run out.
        step: rows come in multiples of this where there is room for so many.
        log: told what happened.
    """

    def __init__(self, device: torch.device, step: int, log: Callable[[str], None] | None = None) -> None:
        self.device, self.step, self.log = device, step, log
        self.tokens_at_most: int | None = None
        self.rows_now_n = 1  # rows of the batch that is being computed, those that only fill it up included
        self.halvings_n = 0

    def rows_of(self, rows_n: int, width: int) -> int:
        """Rows of a batch of that width: `rows_n`, or as many as fit."""
        if self.tokens_at_most is None:
            return rows_n
        fitting_n = min(rows_n, self.tokens_at_most // width)
        return fitting_n // self.step * self.step if fitting_n >= self.step else max(1, fitting_n)

    def halved(self, group: Group, width: int, work: Callable[[Group], Result]) -> Iterator[Result]:
        """Results of a group, whole or in parts.

        Args:
            group: prompts to work on together.
            width: tokens that each row will have in the end.
            work: from a group to a result; it notes the rows that it computes in `rows_now_n`.

        Raises:
            ValueError: there is no memory for one prompt alone.
        """
        waiting = [group]
        while waiting:
            now = waiting.pop(0)
            rows_n = self.rows_of(len(now.positions), width)
            if rows_n < len(now.positions):
                waiting.insert(0, now._replace(positions=now.positions[rows_n:]))
                now = now._replace(positions=now.positions[:rows_n])
            try:
                yield work(now)
            except RuntimeError as error:
                if not ran_out(error):
                    raise
                self._halve(self.rows_now_n, width, error)
                waiting.insert(0, now)

    def _halve(self, rows_n: int, width: int, error: RuntimeError) -> None:
        if rows_n == 1:
            raise ValueError(
                f"there is no memory on {self.device} for one prompt of {width} tokens, continuation included "
                f"({str(error).splitlines()[0]}); use a smaller model, a larger device, or fewer `max_new_tokens`"
            ) from error
        fewer_n = max(self.step, rows_n // 2 // self.step * self.step) if rows_n > self.step else rows_n // 2
        self.tokens_at_most = fewer_n * width
        self.halvings_n += 1
        if self.log:
            hint = (
                "" if fewer_n >= self.step else "; the last digits of statistics may depend on the batch from here on"
            )
            self.log(
                f"memory ran out on {self.device} with {rows_n} rows of {width} tokens: going on with {fewer_n}{hint}"
            )
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()


def ran_out(error: BaseException) -> bool:
    """True if an error means that memory ran out, on a GPU or a CPU."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in CPU_MESSAGES)


def refuse_full(error: Exception) -> None:
    """Raise an error again if it means that memory ran out: that says nothing of the model, and may pass."""
    if ran_out(error):
        raise error


def machine_bytes(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that this process may still take: of the machine, and of its container where that has a limit.

    Args:
        groups: folder of the system's control groups.
    """
    import psutil

    free_n = int(psutil.virtual_memory().available)
    for limit, use, spare in CONTROL_GROUPS:
        with suppress(OSError, ValueError):  # no such group, or one without a limit ("max")
            left_n = int((groups / limit).read_text()) - int((groups / use).read_text())
            stat = dict(line.split() for line in (groups / use).with_name("memory.stat").read_text().splitlines())
            free_n = min(free_n, max(0, left_n + int(stat.get(spare, 0))))
    return free_n
