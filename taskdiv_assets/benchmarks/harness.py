"""Load other tasks of lm-eval: lm-eval's own tasks, by name, and the user's tasks, from a folder of YAML files."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from taskdiv_assets.benchmarks import own_tasks
from taskdiv_assets.benchmarks.tasks import Suite
from taskdiv_assets.experiment.benchmark_settings import HarnessBenchmark
from taskdiv_assets.language_model.quiet import quiet_harness

DATA_FILES = frozenset({".json", ".jsonl", ".csv", ".tsv", ".txt", ".xml"})
FEW_SHOT_SEED = 1234  # lm-eval's default; without a seed, each process would sample different worked examples


def suite(benchmark: HarnessBenchmark) -> Suite:
    """Load the benchmark's tasks. A group is replaced by its members.

    Raises:
        ValueError: the folder, a task or its data are missing or invalid, or `strip` is set although no task generates a text.
    """
    names = benchmark.task_names
    content = folder_sha256(benchmark.folder) if benchmark.folder else None
    manager, generated = _index(benchmark.folder, content, is_whole=not benchmark.folder)
    if benchmark.folder:
        _check_files(benchmark, manager.all_tasks)
        if any(name not in manager.all_tasks for name in names):
            manager, generated = _index(benchmark.folder, content, is_whole=True)
    _check_names(benchmark, manager.all_tasks)
    if benchmark.folder:
        own_tasks.bind_data(manager.task_index, names, Path(benchmark.folder), Path(generated.name))
    with quiet_harness():
        try:
            loaded = manager.load(list(names))
        except (ImportError, AttributeError) as error:  # raised by a function that a YAML file names
            raise ValueError(f"benchmark {benchmark.name!r} cannot be loaded: {error}") from error
    if benchmark.strip and not any(task.OUTPUT_TYPE == "generate_until" for task in loaded["tasks"].values()):
        raise ValueError(
            f"benchmark {benchmark.name!r} has `strip: true`, but the model writes no answers in its tasks; remove the key"
        )
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(FEW_SHOT_SEED)
        if benchmark.few_shot is not None:
            task.set_config("num_fewshot", benchmark.few_shot)
        if benchmark.max_new_tokens is not None and task.OUTPUT_TYPE == "generate_until":
            task.set_config("generation_kwargs", {"max_gen_toks": benchmark.max_new_tokens}, update=True)
    task_names = {name: name for name in loaded["tasks"]}
    return Suite(benchmark.name, loaded, task_names, dict.fromkeys(task_names))


def task_sizes(benchmark: HarnessBenchmark) -> dict[str, int]:
    """Return the number of items of each task. This loads the data of the tasks. Raise ValueError as `suite` does."""
    loaded = suite(benchmark)
    return {name: len(task.eval_docs) for name, task in loaded.task_dict["tasks"].items()}


def settings_identity(benchmark: HarnessBenchmark) -> dict[str, object]:
    """Return the settings on which the scores depend, the version of lm-eval, and a hash of the user's folder.

    Raise ValueError if the user's folder does not exist or has no YAML file.
    """
    return {
        "name": benchmark.name,
        "tasks": list(benchmark.task_names),
        "folder": None if benchmark.folder is None else folder_sha256(benchmark.folder),
        "metrics": list(benchmark.metrics),
        "few_shot": benchmark.few_shot,
        "max_new_tokens": benchmark.max_new_tokens,
        "limit": benchmark.limit,
        "sample": benchmark.sample,
        "task_version": f"lm-eval {importlib.metadata.version('lm-eval')}",
        **({"strip": True} if benchmark.strip else {}),
    }


def folder_sha256(folder: str) -> str:
    """Return one hash over names and bytes of all files in a folder of tasks; raise ValueError if it has no YAML file."""
    root = Path(folder)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    if not any(path.suffix in (".yaml", ".yml") for path in files):
        what = "holds no YAML file" if root.is_dir() else "is not there"
        raise ValueError(f"`folder` {folder!r} of a benchmark {what}; expected a folder with lm-eval's task files")
    found = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return found.hexdigest()


def data_texts(benchmark: HarnessBenchmark) -> list[str]:
    """Return the texts of the DATA_FILES in the benchmark's folder. Task files are left out: they may use special tokens."""
    files = sorted(Path(benchmark.folder).rglob("*")) if benchmark.folder else []
    kept = [path for path in files if path.suffix in DATA_FILES and path.is_file()]
    return [path.read_text(encoding="utf-8", errors="replace") for path in kept]


@cache
def _index(folder: str | None, content: str | None, *, is_whole: bool) -> tuple[Any, TemporaryDirectory[str]]:
    """Return lm-eval's index of tasks, and a temporary folder for generated YAML files.

    `content` is part of the cache key, so that a changed folder is read again. With `is_whole`, the index contains all tasks of
    lm-eval, which takes seconds.
    """
    with quiet_harness():
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=folder, include_defaults=is_whole)
    return manager, TemporaryDirectory(prefix="taskdiv-own-tasks-")


def _check_files(benchmark: HarnessBenchmark, known: Sequence[str]) -> None:
    """Raise ValueError if a task is unknown and the files in the benchmark's folder show why.

    This check is made before lm-eval's own index of tasks is loaded, which takes seconds.
    """
    for name in benchmark.task_names:
        if name not in known and (problem := own_tasks.why_not_found(name, Path(benchmark.folder or "."))):
            raise ValueError(f"benchmark {benchmark.name!r}, task {name!r}: {problem}")


def _check_names(benchmark: HarnessBenchmark, known: Sequence[str]) -> None:
    for name in benchmark.task_names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`lm_eval ls tasks` lists them"
            raise ValueError(f"benchmark {benchmark.name!r}: lm-eval has no task {name!r}; {hint}")
