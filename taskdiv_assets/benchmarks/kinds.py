"""The functions that every kind of benchmark provides: its tasks, their sizes, and the identity of its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """The tasks of a benchmark, and the settings of their questions."""

    suite: Suite
    extent: Extent
    as_trained: bool = False  # separate prompt and answer as fine-tuning does
    written: Sequence[str] = ()  # texts that the tasks write around their items


def suite_of(benchmark: HarnessSettings, *, pool: Pool, template: str, lm: LanguageModel) -> Made:
    """Load a benchmark's tasks; raise ValueError if a source or task name is invalid, or if data cannot be downloaded."""
    if isinstance(benchmark, LabBenchmark):
        end = lm.tokenizer.eos_token
        if not end:
            raise ValueError(
                "the base model's tokenizer has no end-of-sequence token; benchmark `lab` scores answer and end"
            )
        return Made(lab.suite(benchmark, pool, template=template, end=str(end)), Extent(), True, (template,))
    try:
        suite: Suite = _module_of(benchmark).suite(benchmark)
    except (OSError, RuntimeError) as error:  # raised by `datasets` and the hub: not found, no network, no access
        raise ValueError(
            f"the data of benchmark {benchmark.name!r} cannot be fetched ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); check the network and your access to the hub, or name a local copy as `source`"
        ) from error
    written = [text for task in suite.task_dict["tasks"].values() for text in written_by(task)]
    return Made(suite, benchmark, written=written)


def task_sizes(benchmark: HarnessSettings, pool: Pool) -> dict[str, int]:
    """Return the number of items of each task, asked or not. No model is loaded. Only tasks of `harness` may need a download."""
    if isinstance(benchmark, LabBenchmark):
        return lab.task_sizes(benchmark, pool)
    sizes: dict[str, int] = _module_of(benchmark).task_sizes(benchmark)
    return sizes


def expected_items(benchmark: HarnessSettings, pool: Pool) -> int:
    """Return the number of rows of a complete table for one seed: items times metrics."""
    sizes = task_sizes(benchmark, pool)
    extent = benchmark if isinstance(benchmark, Extent) else Extent()
    return sum(items_by_task(extent, sizes).values()) * len(benchmark.metrics)


def holds(benchmark: Benchmark, names: Sequence[str]) -> bool:
    """Return True if a local source of a benchmark contains the text of one of the special tokens `names`.

    BBH, MMLU and AlpacaEval on the hub contain none. The data of lm-eval's own tasks are not checked, because loading takes long.
    """
    if isinstance(benchmark, BbhBenchmark | MmluBenchmark):
        rows = bbh.local_rows(benchmark) if isinstance(benchmark, BbhBenchmark) else mmlu.local_rows(benchmark)
        return held_in([[*task.documents, *task.dev] for task in (rows or {}).values()], names)
    if isinstance(benchmark, AlpacaEvalBenchmark):
        return benchmark.source != HUB and held_in([one.text for one in read_instructions(benchmark.source)], names)
    return isinstance(benchmark, HarnessBenchmark) and held_in(harness.data_texts(benchmark), names)


def settings_identity(benchmark: HarnessSettings, *, pool: Pool, template: str = "{prompt}") -> dict[str, object]:
    """Return everything on which the scores of a given model depend, as JSON values."""
    if isinstance(benchmark, LabBenchmark):
        return lab.settings_identity(benchmark, pool, template=template)
    identity: dict[str, object] = _module_of(benchmark).settings_identity(benchmark)
    return identity


def _module_of(benchmark: BbhBenchmark | MmluBenchmark | HarnessBenchmark) -> Any:
    return bbh if isinstance(benchmark, BbhBenchmark) else mmlu if isinstance(benchmark, MmluBenchmark) else harness
