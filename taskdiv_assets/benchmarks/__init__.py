"""Benchmarks by lm-eval: what a model, with or without adapters, scores on each item of a benchmark.

In: a loaded model, folders of adapters, and the benchmark's settings. Out: one Arrow table a training seed, with the
columns of the table benchmark_scores but for its seeds. The store, Dagster and statistics are not here.
A new benchmark adds a module with its `Suite`, item count and identity, and one case to each function below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from taskdiv_assets.benchmarks import bbh, lab
from taskdiv_assets.benchmarks.adapters import loaded_adapters
from taskdiv_assets.benchmarks.evaluation import evaluate, notes_of
from taskdiv_assets.benchmarks.scoring_model import scoring_model
from taskdiv_assets.benchmarks.tasks import Suite
from taskdiv_assets.experiment import METRICS, BbhBenchmark, LabBenchmark, Pool

if TYPE_CHECKING:
    import pyarrow as pa

    from taskdiv_assets.language_model.loading import LanguageModel

__all__ = ["METRICS", "expected_items", "notes_of", "score", "score_base", "settings_identity"]

Progress = Callable[[int, int], None]


def score(
    lm: LanguageModel,
    adapters: Mapping[int, Path],
    benchmark: LabBenchmark | BbhBenchmark,
    *,
    pool: Pool,
    template: str = "{prompt}",
    progress: Progress | None = None,
) -> dict[int, pa.Table]:
    """Scores of several adapters over one loaded base, which is afterwards as it was.

    Args:
        lm: the base model.
        adapters: the folder of each training seed's adapter.
        benchmark: its settings in the experiment file.
        pool: the experiment's pool; the lab's held-out items belong to one.
        template: the experiment's prompt template; the lab's prompts go through it, BBH keeps its own.
        progress: called with the items that are done and their total, over all adapters.

    Returns:
        For each training seed a table with benchmark, task, item_id, metric, score in 0..1 and prompt_hash, sorted by
        (task, item_id, metric); `notes_of` gives the number of prompts that were cut.

    Raises:
        ValueError: the source, a task's name, an adapter's folder, or a score is not as expected.
    """
    suite = _suite(lm, benchmark, pool, template)
    model = scoring_model(lm, suite.batch_size, _counter(progress, suite.items_n * len(adapters)))
    tables = {}
    with loaded_adapters(lm, adapters) as activate:
        for seed in adapters:
            activate(seed)
            try:
                tables[seed] = evaluate(model, suite)
            except ValueError as error:
                raise ValueError(f"training seed {seed}: {error}") from None
    return tables


def score_base(
    lm: LanguageModel,
    benchmark: LabBenchmark | BbhBenchmark,
    *,
    pool: Pool,
    template: str = "{prompt}",
    progress: Progress | None = None,
) -> pa.Table:
    """Scores of the base model, with no adapter; arguments and table as for `score`."""
    suite = _suite(lm, benchmark, pool, template)
    return evaluate(scoring_model(lm, suite.batch_size, _counter(progress, suite.items_n)), suite)


def expected_items(benchmark: LabBenchmark | BbhBenchmark, pool: Pool) -> int:
    """Rows that a complete table has for one seed: items times metrics. No model is loaded, nothing downloaded."""
    items_n = len(lab.items_of(benchmark, pool)) if isinstance(benchmark, LabBenchmark) else bbh.items_n(benchmark)
    return items_n * len(METRICS[benchmark.name])


def settings_identity(
    benchmark: LabBenchmark | BbhBenchmark, *, pool: Pool, template: str = "{prompt}"
) -> dict[str, object]:
    """What changes the scores of a given model: settings, task version, content of the source; plain JSON values."""
    if isinstance(benchmark, LabBenchmark):
        return lab.settings_identity(benchmark, pool, template=template)
    return bbh.settings_identity(benchmark)


def _suite(lm: LanguageModel, benchmark: LabBenchmark | BbhBenchmark, pool: Pool, template: str) -> Suite:
    """The benchmark's tasks, loaded."""
    if isinstance(benchmark, BbhBenchmark):
        return bbh.suite(benchmark)
    end = lm.tokenizer.eos_token
    if not end:
        raise ValueError(
            "the base model's tokenizer has no end-of-sequence token; benchmark `lab` scores answer and end"
        )
    return lab.suite(benchmark, pool, template=template, end=str(end))


def _counter(progress: Progress | None, total_n: int) -> Callable[[], None]:
    """A function that counts its calls and reports them."""
    done_n = 0

    def on_item() -> None:
        nonlocal done_n
        done_n += 1
        if progress is not None:
            progress(done_n, total_n)

    return on_item
