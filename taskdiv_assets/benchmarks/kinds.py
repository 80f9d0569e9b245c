"""What each kind of benchmark says of itself: its tasks, how many items it has, and what its scores depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from taskdiv_assets.benchmarks import bbh, harness, mmlu
from taskdiv_assets.benchmarks import lab_benchmark as lab
from taskdiv_assets.benchmarks.alpaca.instructions import read_instructions
from taskdiv_assets.benchmarks.item_sampling import items_by_task
from taskdiv_assets.benchmarks.tasks import Suite, written_by
from taskdiv_assets.experiment.benchmark_settings import (
    HUB,
    AlpacaEvalBenchmark,
    BbhBenchmark,
    Benchmark,
    Extent,
    HarnessBenchmark,
    LabBenchmark,
    MmluBenchmark,
)
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.control_marks import held_in

if TYPE_CHECKING:
    from taskdiv_assets.language_model.loading import LanguageModel

HarnessSettings = LabBenchmark | BbhBenchmark | MmluBenchmark | HarnessBenchmark


class Made(NamedTuple):
    """A benchmark's tasks, and how they are put to a model."""

    suite: Suite
    extent: Extent
    as_trained: bool = False  # prompt and answer part where fine-tuning parts them
    written: Sequence[str] = ()  # what the tasks write around their items


def suite_of(benchmark: HarnessSettings, *, pool: Pool, template: str, lm: LanguageModel) -> Made:
    """Load a benchmark's tasks.

    Raises:
        ValueError: the source or a task's name is not as expected, or data cannot be fetched.
    """
    if isinstance(benchmark, LabBenchmark):
        end = lm.tokenizer.eos_token
        if not end:
            raise ValueError(
                "the base model's tokenizer has no end-of-sequence token; benchmark `lab` scores answer and end"
            )
        return Made(lab.suite(benchmark, pool, template=template, end=str(end)), Extent(), True, (template,))
    try:
        if isinstance(benchmark, BbhBenchmark):
            return _of_harness(bbh.suite(benchmark), benchmark)
        if isinstance(benchmark, MmluBenchmark):
            return _of_harness(mmlu.suite(benchmark), benchmark)
        return _of_harness(harness.suite(benchmark), benchmark)
    except (OSError, RuntimeError) as error:  # of `datasets` and the hub: not found, no network, no access
        raise ValueError(
            f"the data of benchmark {benchmark.name!r} cannot be fetched ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); check the network and your access to the hub, or name a local copy as `source`"
        ) from error


def _of_harness(suite: Suite, extent: Extent) -> Made:
    return Made(
        suite, extent, written=[text for task in suite.task_dict["tasks"].values() for text in written_by(task)]
    )


def task_sizes(benchmark: HarnessSettings, pool: Pool) -> dict[str, int]:
    """Items that each task has, asked or not; no model is loaded, and nothing downloaded but for tasks of other names."""
    if isinstance(benchmark, LabBenchmark):
        return lab.task_sizes(benchmark, pool)
    if isinstance(benchmark, BbhBenchmark):
        return bbh.task_sizes(benchmark)
    if isinstance(benchmark, MmluBenchmark):
        return mmlu.task_sizes(benchmark)
    return harness.task_sizes(benchmark)


def expected_items(benchmark: HarnessSettings, pool: Pool) -> int:
    """Rows that a complete table has for one seed: items times metrics."""
    sizes = task_sizes(benchmark, pool)
    extent = benchmark if isinstance(benchmark, Extent) else Extent()
    return sum(items_by_task(extent, sizes).values()) * len(benchmark.metrics)


def holds(benchmark: Benchmark, names: Sequence[str]) -> bool:
    """True if a local source of a benchmark holds one of some control tokens' texts.

    BBH, MMLU and AlpacaEval on the hub hold none. Data of lm-eval's other tasks are not looked at: that would load them.
    """
    if isinstance(benchmark, BbhBenchmark):
        return held_in(bbh.local_texts(benchmark), names)
    if isinstance(benchmark, MmluBenchmark):
        return held_in(mmlu.local_texts(benchmark), names)
    if isinstance(benchmark, AlpacaEvalBenchmark):
        return benchmark.source != HUB and held_in([one.text for one in read_instructions(benchmark.source)], names)
    return isinstance(benchmark, HarnessBenchmark) and held_in(harness.data_texts(benchmark), names)


def settings_identity(benchmark: HarnessSettings, *, pool: Pool, template: str = "{prompt}") -> dict[str, object]:
    """What changes the scores of a given model: settings, task version, content of the source; plain JSON values."""
    if isinstance(benchmark, LabBenchmark):
        return lab.settings_identity(benchmark, pool, template=template)
    if isinstance(benchmark, BbhBenchmark):
        return bbh.settings_identity(benchmark)
    if isinstance(benchmark, MmluBenchmark):
        return mmlu.settings_identity(benchmark)
    return harness.settings_identity(benchmark)
