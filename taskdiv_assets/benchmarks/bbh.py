"""The benchmark `bbh`: BIG-Bench Hard with lm-eval's own tasks. The rows come from the hub or from local files."""

from __future__ import annotations

from pathlib import Path

from taskdiv_assets.benchmarks.bbh_source import SIZES, read_rows
from taskdiv_assets.benchmarks.question_sources import TaskRows, chosen, content_sha256, sizes_of
from taskdiv_assets.benchmarks.tasks import Suite, load_chosen, stock_folder, stock_version
from taskdiv_assets.experiment.benchmark_settings import HUB, BbhBenchmark

# lm-eval's task folder for each `prompting`. The folder's name is also part of the task names.
FOLDERS = {"chain_of_thought": "cot_fewshot", "direct": "fewshot", "zero_shot": "zeroshot"}


def chosen_tasks(benchmark: BbhBenchmark) -> tuple[str, ...]:
    """Return the names of the tasks to run: the benchmark's `tasks`, or all 27."""
    return chosen("BBH task", benchmark.tasks, SIZES)


def suite(benchmark: BbhBenchmark) -> Suite:
    names = {f"bbh_{FOLDERS[benchmark.prompting]}_{name}": name for name in chosen_tasks(benchmark)}
    loaded = load_chosen("bbh", task_folder(benchmark), names, local_rows(benchmark))
    for task in loaded.task_dict["tasks"].values():
        task.set_config("generation_kwargs", {"max_gen_toks": benchmark.max_new_tokens}, update=True)
    return loaded


def task_sizes(benchmark: BbhBenchmark) -> dict[str, int]:
    """Return the number of items of each chosen task. For the hub, return the published numbers."""
    return sizes_of(local_rows(benchmark), {name: SIZES[name] for name in chosen_tasks(benchmark)})


def settings_identity(benchmark: BbhBenchmark) -> dict[str, object]:
    """Return the settings on which the scores depend. A local source is identified by a hash of its rows."""
    folder = task_folder(benchmark)
    return {
        "name": "bbh",
        "tasks": sorted(chosen_tasks(benchmark)),
        "limit": benchmark.limit,
        "sample": benchmark.sample,
        "prompting": benchmark.prompting,
        "max_new_tokens": benchmark.max_new_tokens,
        "source": content_sha256(local_rows(benchmark)),
        "task_version": stock_version(folder / f"_{folder.name}_template_yaml"),
        **({"strip": True} if benchmark.strip else {}),
    }


def task_folder(benchmark: BbhBenchmark) -> Path:
    return stock_folder("bbh", FOLDERS[benchmark.prompting])


def local_rows(benchmark: BbhBenchmark) -> dict[str, TaskRows] | None:
    return None if benchmark.source == HUB else read_rows(benchmark.source, chosen_tasks(benchmark))
