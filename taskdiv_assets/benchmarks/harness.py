"""Any other tasks of lm-eval: stock ones by name, and the user's own from a folder of YAML files."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks import own_tasks
from taskdiv_assets.benchmarks.tasks import Suite
from taskdiv_assets.experiment.benchmark_settings import HarnessBenchmark
from taskdiv_assets.language_model.quiet import quiet_harness

DATA_FILES = frozenset({".json", ".jsonl", ".csv", ".tsv", ".txt", ".xml"})
FEW_SHOT_SEED = 1234  # lm-eval's own; without a seed, each process would draw other worked examples


def suite(benchmark: HarnessBenchmark) -> Suite:
    """Return the tasks, with groups resolved to their members; names in the tables are lm-eval's."""
    names = benchmark.task_names
    content = folder_sha256(benchmark.folder) if benchmark.folder else None
    own = _index(benchmark.folder, content, is_whole=False) if benchmark.folder else None
    if own is not None:
        _check_files(benchmark, own.manager.all_tasks)
    if own is None or any(name not in own.manager.all_tasks for name in names):
        own = _index(benchmark.folder, content, is_whole=True)  # seconds: an index of all that lm-eval brings
    manager = own.manager
    _check_names(benchmark, manager.all_tasks)
    if benchmark.folder:
        own_tasks.bind_data(manager.task_index, names, Path(benchmark.folder), Path(own.generated.name))
    with quiet_harness():
        try:
            loaded = manager.load(list(names))
        except (ImportError, AttributeError) as error:  # of a function that a YAML file names
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
    """Return the items of each task; this loads their data."""
    loaded = suite(benchmark)
    return {name: len(task.eval_docs) for name, task in loaded.task_dict["tasks"].items()}


def settings_identity(benchmark: HarnessBenchmark) -> dict[str, object]:
    """Return what changes the scores; tasks by lm-eval's version, a user's folder by its content."""
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
    """Return one hash over names and bytes of all files in a folder of tasks, including data there."""
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
    """Return the text files of a folder that are not task files; task files may write control tokens on purpose."""
    files = sorted(Path(benchmark.folder).rglob("*")) if benchmark.folder else []
    kept = [path for path in files if path.suffix in DATA_FILES]
    return [path.read_text(encoding="utf-8", errors="replace") for path in kept if path.is_file()]


class _Index(NamedTuple):
    """lm-eval's index of tasks, and the temporary folder of files that were generated for it."""

    manager: Any
    generated: TemporaryDirectory[str]


@cache
def _index(folder: str | None, content: str | None, *, is_whole: bool) -> _Index:
    """Return an index of tasks; a folder whose `content` has changed is read again."""
    with quiet_harness():
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=folder, include_defaults=is_whole)
    return _Index(manager, TemporaryDirectory(prefix="taskdiv-own-tasks-"))


def _check_files(benchmark: HarnessBenchmark, known: Sequence[str]) -> None:
    """Refuse the user's tasks that lm-eval skipped, instead of looking for them among its own, which takes seconds."""
    for name in benchmark.task_names:
        problem = "" if name in known else own_tasks.why_not_found(name, Path(benchmark.folder or "."))
        if problem:
            raise ValueError(f"benchmark {benchmark.name!r}, task {name!r}: {problem}")


def _check_names(benchmark: HarnessBenchmark, known: Sequence[str]) -> None:
    for name in benchmark.task_names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`lm_eval ls tasks` lists them"
            raise ValueError(f"benchmark {benchmark.name!r}: lm-eval has no task {name!r}; {hint}")
