"""The sizes of the benchmarks: the documented sizes, or small sizes that check in a minute that the benchmarks run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import data


class Scale(NamedTuple):
    """The sizes of one run, and the folder of its pools."""

    folder: Path
    prompts_n: int = 15_000
    widths: tuple[int, ...] = (384, 1_024)
    k_center_n: int = 1_500
    facility_n: tuple[int, ...] = (1_500, 5_000)
    graph_rows_n: int = 3_000  # rows on which submodlib's sparse mode is run
    growth_rows: tuple[int, ...] = (2_000, 4_000, 8_000, 16_000)
    growth_depths: tuple[int, ...] = (250, 500, 1_000, 2_000)
    many_n: int = 10_000_000
    tasks_n: int = 2_000
    heap_n: int = 200_000
    square_n: int = 2_048
    copy_mib: int = 512
    lab_steps: int | None = None  # of training the lab's base; None: as many as the lab has
    lab_prompts_n: int | None = None  # None: its whole pool
    stories_prompts_n: int = 2_000
    real_prompts_n: int = 512  # at most, scored by a model of a real size
    real_steps_n: int = 2  # of training
    real_batch_n: int = 16  # examples of a step
    real_items_n: int = 64  # held-out items
    real_settings_n: int = 3  # settings of training
    logits_steps_n: int = 128  # of which the memory is measured
    tuning_turns_n: int = 5
    tuning_lab_n: int = 512  # examples; of both, whole batches of 16
    tuning_stories_n: int = 256
    tuning_lab_epochs: int = 8  # the demo's
    evaluating_adapters_n: int = 6
    evaluating_turns_n: int = 3
    evaluating_processes_n: int = 2  # turns of what takes a process a turn; each adapter has its own call
    mmlu_items_n: int = 6  # a subject
    bbh_items_n: int = 10  # a task
    endings_items_n: int = 10
    discovery_prompts_n: int = 6_000  # in which tasks are looked for
    has_largest_report: bool = True

    def pool(self, d: int, n: int | None = None) -> Path:
        """Return the file of an embedded pool. The first call creates the file."""
        rows_n = n or self.prompts_n
        name = f"pool_{rows_n}x{d}"
        path = self.folder / f"{name}.npz"
        return path if path.exists() else data.save(self.folder, name, data.embedded_pool(rows_n, d))


@contextmanager
def scale(is_quick: bool) -> Iterator[Scale]:
    """Yield the sizes, with a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as name:
        full = Scale(Path(name))
        small = full._replace(
            prompts_n=2_000, widths=(64, 128), k_center_n=200, facility_n=(200, 500), graph_rows_n=500,
            growth_rows=(500, 1_000, 2_000), growth_depths=(50, 100, 200), many_n=200_000, heap_n=20_000,
            square_n=512, copy_mib=32, lab_steps=60, lab_prompts_n=400, stories_prompts_n=40, real_prompts_n=32, real_batch_n=4, real_items_n=8, real_settings_n=1, logits_steps_n=16,
            tuning_turns_n=1, tuning_lab_n=64, tuning_stories_n=32, tuning_lab_epochs=2,
            evaluating_adapters_n=2, evaluating_turns_n=1, evaluating_processes_n=1, mmlu_items_n=2, bbh_items_n=2, endings_items_n=4,
            discovery_prompts_n=600, has_largest_report=False,
        )  # fmt: skip
        yield small if is_quick else full
