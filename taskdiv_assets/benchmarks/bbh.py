"""The benchmark `bbh`: BIG-Bench Hard by lm-eval's stock tasks, from the hub or from local files.

Local rows change only where the data come from: prompts, stop sequences, answer extraction and metric are the stock
ones. The experiment's own prompt template is not applied: the prompts are the benchmark's.
"""

from __future__ import annotations

from pathlib import Path

from taskdiv_assets.benchmark_settings import HUB, BbhBenchmark
from taskdiv_assets.benchmarks.bbh_source import SIZES, read_rows
from taskdiv_assets.benchmarks.sources import chosen, content_sha256
from taskdiv_assets.benchmarks.tasks import LocalTask, Suite, load_local, load_stock, stock_folder, stock_version

# lm-eval's folder of tasks for each way of prompting; its name is part of a task's name too.
FOLDERS = {"chain_of_thought": "cot_fewshot", "direct": "fewshot", "zero_shot": "zeroshot"}


def chosen_tasks(benchmark: BbhBenchmark) -> tuple[str, ...]:
    """Names of the tasks to run, all 27 unless the experiment names some.

    Raises:
        ValueError: an unknown task, or one that stands twice.
    """
    return chosen("BBH task", benchmark.tasks, SIZES)


def suite(benchmark: BbhBenchmark) -> Suite:
    """The BBH tasks with all their rows, in the order of the source."""
    names = chosen_tasks(benchmark)
    folder, prefix = task_folder(benchmark), f"bbh_{FOLDERS[benchmark.prompting]}_"
    if benchmark.source == HUB:
        stock = {prefix + name: name for name in names}
        loaded = load_stock("bbh", folder, stock)
    else:
        tasks = [
            LocalTask(name, prefix + name, folder / f"{name}.yaml", rows.documents, rows.ids)
            for name, rows in read_rows(benchmark.source, names).items()
        ]
        loaded = load_local("bbh", tasks)
    for task in loaded.task_dict["tasks"].values():
        task.set_config("generation_kwargs", {"max_gen_toks": benchmark.max_new_tokens}, update=True)
    return loaded


def task_sizes(benchmark: BbhBenchmark) -> dict[str, int]:
    """Items of each chosen task in the source, without loading any model. For the hub: the published sizes."""
    names = chosen_tasks(benchmark)
    if benchmark.source == HUB:
        return {name: SIZES[name] for name in names}
    return {name: len(rows.documents) for name, rows in read_rows(benchmark.source, names).items()}


def settings_identity(benchmark: BbhBenchmark) -> dict[str, object]:
    """What changes the scores; a local source by its content, so that a moved file changes nothing."""
    names = chosen_tasks(benchmark)
    folder = task_folder(benchmark)
    return {
        "name": "bbh",
        "tasks": sorted(names),
        "limit": benchmark.limit,
        "sample": benchmark.sample,
        "prompting": benchmark.prompting,
        "max_new_tokens": benchmark.max_new_tokens,
        "source": HUB if benchmark.source == HUB else content_sha256(read_rows(benchmark.source, names)),
        "task_version": stock_version(folder / f"_{folder.name}_template_yaml"),
    }


def task_folder(benchmark: BbhBenchmark) -> Path:
    """Where lm-eval keeps the tasks that prompt in this way."""
    return stock_folder("bbh", FOLDERS[benchmark.prompting])
