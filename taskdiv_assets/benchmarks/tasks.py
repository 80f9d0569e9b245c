"""Make lm-eval task objects from rows and a stock file, which is a YAML file that defines everything except the rows.

The rows and a generated YAML file for each task are written to a temporary folder, which is removed after lm-eval has read them.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks.question_sources import TaskRows
from taskdiv_assets.language_model.quiet import quiet_harness

# Keys of a task's configuration that determine the text of a question.
WRITTEN = (
    *("doc_to_text", "doc_to_target", "doc_to_choice", "description"),
    *("target_delimiter", "fewshot_delimiter", "gen_prefix", "process_docs"),
)
HOOK = "taskdiv_assets.benchmarks.hooks.read_rows"


class LocalTask(NamedTuple):
    """One task with its rows."""

    name: str  # in the tables
    harness_name: str  # in lm-eval
    stock_file: Path  # YAML file that defines everything except the rows
    rows: Sequence[Mapping[str, Any]]
    item_ids: Sequence[str] | None  # one id for each row; None: lm-eval's hash of the row is the id
    dev_rows: Sequence[Mapping[str, Any]] = ()  # the split `dev`, where the stock file may find worked examples


class Suite(NamedTuple):
    """The tasks of one benchmark, loaded once and used for every adapter."""

    benchmark: str
    task_dict: Mapping[str, Any]  # what `TaskManager.load` returns
    task_names: Mapping[str, str]  # lm-eval's name → the name in the tables
    item_ids: Mapping[str, Sequence[str] | None]  # by the name in the tables, in the order of the rows


def load_local(benchmark: str, tasks: Iterable[LocalTask]) -> Suite:
    tasks = list(tasks)
    with TemporaryDirectory(prefix="taskdiv-tasks-") as folder:
        for task in tasks:
            _write(Path(folder), task)
        task_dict = _load(Path(folder), [task.harness_name for task in tasks])
    names = {task.harness_name: task.name for task in tasks}
    return Suite(benchmark, task_dict, names, {task.name: task.item_ids for task in tasks})


def load_chosen(
    benchmark: str,
    folder: Path,  # folder of the stock YAML files
    names: Mapping[str, str],  # lm-eval's name → the name in the tables
    rows: Mapping[str, TaskRows] | None,  # by the name in the tables; None: use the tasks' own data source
    file: str = "{name}.yaml",  # file name of a task; {name} is the name in the tables
) -> Suite:
    """Load some tasks that come with lm-eval, with local rows if `rows` is given."""
    if rows is None:
        return Suite(benchmark, _load(folder, list(names)), names, dict.fromkeys(names.values()))
    tasks = (
        LocalTask(name, harness_name, folder / file.format(name=name), *rows[name])
        for harness_name, name in names.items()
    )
    return load_local(benchmark, tasks)


def stock_folder(*parts: str) -> Path:
    """Return a task folder of the installed lm-eval, such as ("bbh", "fewshot"), without the slow import of lm-eval.

    Raise ValueError if lm-eval is not installed.
    """
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise ValueError("lm-eval is not installed; install this package with its dependencies")
    return Path(spec.origin).parent.joinpath("tasks", *parts)


def stock_version(file: Path) -> str:
    """Return the version in a task's YAML file; raise ValueError if it has none.

    lm-eval increases the version when prompts or scoring change.
    """
    found = re.search(r"^metadata:\n  version: *(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"task file {file.name} of lm-eval has no version; use a release of lm-eval that is supported")
    return found[1]


def written_by(task: Any) -> list[str]:
    """Return the texts that a task writes around its items, such as templates, delimiters, and texts inside functions.

    Worked examples are left out, because they are items. Stop texts are left out, because the model does not read them.
    """
    found: list[str] = []
    for key in WRITTEN:
        value = getattr(task.config, key, None)
        values = value if isinstance(value, list) else [value]
        found += _written_by_code(value, set()) if callable(value) else [str(one) for one in values if one is not None]
    return found


def _written_by_code(function: Any, seen: set[CodeType]) -> list[str]:
    """Return the texts in a function, in the global values that it uses, and in the functions of its module that it uses."""
    function = inspect.unwrap(getattr(function, "func", function))  # the function inside a partial
    code = getattr(function, "__code__", None)
    if code is None or code in seen:
        return []
    seen.add(code)
    constants, names = _used_by(code)
    found = _texts_in([function.__defaults__, function.__kwdefaults__, constants])
    for name in sorted(names):
        value = function.__globals__.get(name)
        is_own = inspect.isfunction(value) and value.__module__ == function.__module__
        found += _written_by_code(value, seen) if is_own else _texts_in(value)
    return found


def _used_by(code: CodeType) -> tuple[list[object], set[str]]:
    """Return the constants and the names in a function's code, inner functions included."""
    constants, names = [*code.co_consts], {*code.co_names}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more, others = _used_by(inner)
            constants, names = constants + more, names | others
    return constants, names


def _texts_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = tuple(value.items())
    return (
        [text for one in value for text in _texts_in(one)] if isinstance(value, list | tuple | set | frozenset) else []
    )


@contextmanager
def cached_templates() -> Iterator[None]:
    """Make lm-eval compile each Jinja template once, not once for each text. Without this, the prompts of MMLU took 83 s."""
    from lm_eval import utils

    compiled = utils.env.from_string
    utils.env.from_string = lru_cache(maxsize=1024)(compiled)
    try:
        yield
    finally:
        utils.env.from_string = compiled


def _load(folder: Path, harness_names: list[str]) -> Mapping[str, Any]:
    """Load tasks from the YAML files of one folder only, because lm-eval's own index of all tasks takes 5 to 22 seconds."""
    with quiet_harness():
        from lm_eval.tasks import TaskManager

        loaded: Mapping[str, Any] = TaskManager(include_path=str(folder), include_defaults=False).load(harness_names)
    return loaded


def _write(folder: Path, task: LocalTask) -> None:
    """Write one task's rows and its YAML file. The values are JSON, which is valid YAML."""
    rows_file = folder / f"{task.harness_name}.json"
    rows_file.write_text(json.dumps({"test": list(task.rows), "dev": list(task.dev_rows)}), encoding="utf-8")
    content = (
        f"include: {json.dumps(str(task.stock_file))}\ntask: {json.dumps(task.harness_name)}\n"
        f"custom_dataset: !function {HOOK}\ndataset_kwargs: {json.dumps({'file': str(rows_file)})}\n"
    )
    (folder / f"{task.harness_name}.yaml").write_text(content, encoding="utf-8")
