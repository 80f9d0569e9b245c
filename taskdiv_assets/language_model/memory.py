"""The free memory, and the loop over batches that scoring, embeddings, judging and benchmarks share.

The loop halves a batch if memory runs out. Later batches have at most the halved number of tokens. If a batch has fewer rows
than `batching.RowSteps.step`, the last digits of its results may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from taskdiv_assets.language_model.faults import ran_out
from taskdiv_assets.storage.machine import machine

if TYPE_CHECKING:
    import torch

    from taskdiv_assets.language_model.batching import Group

Item = TypeVar("Item")
Result = TypeVar("Result")
BoolArray = npt.NDArray[np.bool_]
# Files with the limit and the use of this container's memory, and the name of its reclaimable memory in memory.stat. The first
# entry is for control groups of version 2, the second for version 1.
CONTROL_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def cut(order: Sequence[Item], rows_of: Callable[[Sequence[Item]], int]) -> Iterator[Sequence[Item]]:
    """Split an ordered list into batches. `rows_of` maps the remaining items to the size of the next batch, at least 1.

    >>> list(cut([5, 4, 1, 1], lambda left: 6 // left[0]))
    [[5], [4], [1, 1]]
    """
    start = 0
    while start < len(order):
        left = order[start:]
        rows_n = rows_of(left)
        yield left[:rows_n]
        start += rows_n


class Room:
    """The limit on the tokens of a batch, prompts and continuations together.

    There is no limit if the largest batch fits into the free memory (`footprint`), until memory has run out once.
    """

    def __init__(
        self,
        device: torch.device,
        step: int,
        log: Callable[[str], None] | None = None,
        tokens_at_most: int | None = None,
    ) -> None:
        self.device, self.log = device, log
        self.step = step  # the number of rows is a multiple of this, if that many fit
        self.tokens_at_most = tokens_at_most
        self.rows_now_n = 1  # rows of the current batch, including rows that only fill up the batch
        self.halvings_n = 0
        if log and tokens_at_most is not None:
            log(
                f"{device} has little free memory: a batch has at most {tokens_at_most:,} tokens; the last digits of "
                "statistics may depend on the batch"
            )

    def rows_of(self, rows_n: int, width: int) -> int:
        """Return the number of rows for a batch: at most `rows_n`, and at most the rows of `width` tokens that the limit allows.

        The number is at least 1. If there is a limit and at least `step` rows fit, the number is a multiple of `step`.
        """
        if self.tokens_at_most is None:
            return rows_n
        fitting_n = min(rows_n, self.tokens_at_most // width)
        return fitting_n // self.step * self.step if fitting_n >= self.step else max(1, fitting_n)

    def halved(self, group: Group, width: int, work: Callable[[Group], Result]) -> Iterator[Result]:
        """Yield the results of a group, in one or several parts; raise ValueError if one prompt does not fit into memory.

        `width` is the final length of each row in tokens. `work` computes a group and sets `self.rows_now_n`.
        """
        import torch

        waiting = [group]
        while waiting:
            now = waiting.pop(0)
            rows_n = self.rows_of(len(now.positions), width)
            if rows_n < len(now.positions):
                waiting.insert(0, now._replace(positions=now.positions[rows_n:]))
                now = now._replace(positions=now.positions[:rows_n])
            try:
                with torch.inference_mode():
                    found = work(now)
            except RuntimeError as error:
                if not ran_out(error):
                    raise
                self._halve(self.rows_now_n, width, error)
                waiting.insert(0, now)
            else:
                yield found

    def run(
        self,
        groups: Iterable[Group],
        work: Callable[[Group], Result],
        *,
        new_n: int = 0,
        known: BoolArray | None = None,
    ) -> Iterator[Result]:
        """Yield the results of `work` for all groups. Prompts that the mask `known` (n,) marks are left out.

        Each prompt grows by `new_n` tokens. Raise ValueError as `halved` does.
        """
        for group in groups:
            left = group if known is None else group._replace(positions=group.positions[~known[group.positions]])
            if len(left.positions):
                yield from self.halved(left, left.length + new_n, work)

    def _halve(self, rows_n: int, width: int, error: RuntimeError) -> None:
        if rows_n == 1:
            raise ValueError(
                f"{self.device} has too little memory for one prompt of {width} tokens, continuation included "
                f"({str(error).splitlines()[0]}); use a smaller model, a larger device, or fewer `max_new_tokens`"
            ) from error
        fewer_n = max(self.step, rows_n // 2 // self.step * self.step) if rows_n > self.step else rows_n // 2
        self.tokens_at_most = fewer_n * width
        self.halvings_n += 1
        if self.log:
            said = f"memory ran out on {self.device} with {rows_n} rows of {width} tokens: using {fewer_n} rows now"
            if fewer_n < self.step:
                said += "; the last digits of statistics may depend on the batch from here on"
            self.log(said)
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Return the free memory in bytes for this process on a device. Processes of one training get equal shares of CPU memory."""
    import torch

    if device.type == "cuda":  # memory that torch has reserved but does not use is free too
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return machine_bytes() // machine().tuning_workers


def machine_bytes(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the free memory in bytes, within the limits of the machine and of this container.

    The container's limit is that of the control group at the top of `groups`. Limits of groups below it are not read, such as
    those of a systemd unit outside of a container.
    """
    import psutil

    free_n = int(psutil.virtual_memory().available)
    for limit, use, spare in CONTROL_GROUPS:
        with suppress(OSError, ValueError):  # no such group, or one without a limit ("max")
            left_n = int((groups / limit).read_text()) - int((groups / use).read_text())
            stat = dict(line.split() for line in (groups / use).with_name("memory.stat").read_text().splitlines())
            free_n = min(free_n, max(0, left_n + int(stat.get(spare, 0))))
    return free_n
