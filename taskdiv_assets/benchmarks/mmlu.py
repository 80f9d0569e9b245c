"""The benchmark `mmlu`: lm-eval's own tasks for 57 subjects. The rows come from the hub or from local files.

An answer is right if the letter of the right choice is the most likely one of " A", " B", " C" and " D". The worked examples are
the first `few_shot` rows of the subject's split `dev`, which has five rows.
"""

from __future__ import annotations

from taskdiv_assets.benchmarks.mmlu_source import SUBJECTS, read_rows
from taskdiv_assets.benchmarks.question_sources import TaskRows, chosen, content_sha256, sizes_of
from taskdiv_assets.benchmarks.tasks import Suite, load_chosen, stock_folder, stock_version
from taskdiv_assets.experiment.benchmark_settings import HUB, MmluBenchmark

PREFIX = "mmlu_"
FOLDER = ("mmlu", "default")


def chosen_subjects(benchmark: MmluBenchmark) -> tuple[str, ...]:
    """Return the names of the subjects to run: the benchmark's `tasks`, or all 57."""
    return chosen("MMLU subject", benchmark.tasks, SUBJECTS)


def suite(benchmark: MmluBenchmark) -> Suite:
    names = {PREFIX + name: name for name in chosen_subjects(benchmark)}
    loaded = load_chosen("mmlu", stock_folder(*FOLDER), names, local_rows(benchmark), PREFIX + "{name}.yaml")
    for task in loaded.task_dict["tasks"].values():
        task.set_config("num_fewshot", benchmark.few_shot)
    return loaded


def task_sizes(benchmark: MmluBenchmark) -> dict[str, int]:
    """Return the number of questions of each chosen subject. For the hub, return the published numbers."""
    return sizes_of(local_rows(benchmark), {name: SUBJECTS[name] for name in chosen_subjects(benchmark)})


def settings_identity(benchmark: MmluBenchmark) -> dict[str, object]:
    """Return the settings on which the scores depend. A local source is identified by a hash of its rows."""
    return {
        "name": "mmlu",
        "tasks": sorted(chosen_subjects(benchmark)),
        "limit": benchmark.limit,
        "sample": benchmark.sample,
        "few_shot": benchmark.few_shot,
        "source": content_sha256(local_rows(benchmark)),
        "task_version": stock_version(stock_folder(*FOLDER) / "_default_template_yaml"),
    }


def local_rows(benchmark: MmluBenchmark) -> dict[str, TaskRows] | None:
    if benchmark.source == HUB:
        return None
    return read_rows(benchmark.source, chosen_subjects(benchmark), benchmark.few_shot)
