"""The benchmark `bbh`: BIG-Bench Hard by lm-eval's stock tasks, from the hub or from local files.

Local rows change only the source of the data: prompts, stop sequences, answer extraction and metric are the stock ones. The
prompts are the benchmark's own, without the experiment's prompt template.
"""

from __future__ import annotations

from pathlib import Path

from taskdiv_assets.benchmarks.bbh_source import SIZES, read_rows
from taskdiv_assets.benchmarks.question_sources import TaskRows, chosen, content_sha256, sizes_of
from taskdiv_assets.benchmarks.tasks import Suite, load_chosen, stock_folder, stock_version
from taskdiv_assets.experiment.benchmark_settings import HUB, BbhBenchmark

# lm-eval's folder of tasks for each way of prompting; its name is part of a task's name too.
FOLDERS = {"chain_of_thought": "cot_fewshot", "direct": "fewshot", "zero_shot": "zeroshot"}


def chosen_tasks(benchmark: BbhBenchmark) -> tuple[str, ...]:
    """Return the names of the tasks to run, all 27 unless the experiment names some."""
    return chosen("BBH task", benchmark.tasks, SIZES)


def suite(benchmark: BbhBenchmark) -> Suite:
    """Return the BBH tasks with all their rows, in the order of the source."""
    names = {f"bbh_{FOLDERS[benchmark.prompting]}_{name}": name for name in chosen_tasks(benchmark)}
    loaded = load_chosen("bbh", task_folder(benchmark), names, local_rows(benchmark))
    for task in loaded.task_dict["tasks"].values():
        task.set_config("generation_kwargs", {"max_gen_toks": benchmark.max_new_tokens}, update=True)
    return loaded


def task_sizes(benchmark: BbhBenchmark) -> dict[str, int]:
    """Return the items of each chosen task without loading a model; for the hub, the published sizes."""
    return sizes_of(local_rows(benchmark), {name: SIZES[name] for name in chosen_tasks(benchmark)})


def settings_identity(benchmark: BbhBenchmark) -> dict[str, object]:
    """Return what changes the scores; a local source by its content, so that moving a file changes nothing."""
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
    """Return lm-eval's folder of the tasks with this way of prompting."""
    return stock_folder("bbh", FOLDERS[benchmark.prompting])


def local_rows(benchmark: BbhBenchmark) -> dict[str, TaskRows] | None:
    """Return the rows of a local source; None for the hub."""
    return None if benchmark.source == HUB else read_rows(benchmark.source, chosen_tasks(benchmark))
