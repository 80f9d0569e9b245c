"""The requests of our local tasks equal those of lm-eval's stock tasks on the same rows to the byte, for all of MMLU and BBH.

Folders with the names of the hub's data sets replace the hub, and `datasets` reads them by the stock YAML itself. Their rows
are written here from the shared files, without the readers of the project.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from taskdiv_assets.benchmarks import bbh, mmlu
from taskdiv_assets.benchmarks.bbh_source import SIZES
from taskdiv_assets.benchmarks.mmlu_source import SUBJECTS
from taskdiv_assets.benchmarks.tasks import Suite, stock_folder
from taskdiv_assets.experiment.benchmark_settings import BbhBenchmark, MmluBenchmark
from taskdiv_assets.language_model.quiet import quiet_harness

BBH_FOLDERS = {"chain_of_thought": "cot_fewshot", "direct": "fewshot", "zero_shot": "zeroshot"}


def write_mmlu(rows_file: Path, folder: Path) -> None:
    """Write cais/mmlu as on the hub: one configuration for each subject, with the splits dev and test."""
    table = pq.read_table(rows_file)
    configs = []
    for subject in SUBJECTS:
        files = []
        for split in ("dev", "test"):
            rows = table.filter((pc.field("subject") == subject) & (pc.field("split") == split)).to_pydict()
            columns = {
                "question": rows["question"],
                "subject": rows["subject"],
                "choices": [list(four) for four in zip(*(rows[letter] for letter in "ABCD"), strict=True)],
                "answer": ["ABCD".index(letter) for letter in rows["answer"]],
            }
            (folder / subject).mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), folder / subject / f"{split}-0.parquet")
            files.append({"split": split, "path": f"{subject}/{split}-0.parquet"})
        configs.append({"config_name": subject, "data_files": files})
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")


def write_bbh(rows_file: Path, folder: Path) -> None:
    """Write SaylorTwift/bbh as on the hub: one configuration for each task, with the split test."""
    table = pq.read_table(rows_file)
    configs = []
    for name in SIZES:
        (folder / name).mkdir(parents=True)
        rows = table.filter(pc.field("task") == name).select(["input", "target"])
        pq.write_table(rows, folder / name / "test-0.parquet")
        configs.append({"config_name": name, "data_files": [{"split": "test", "path": f"{name}/test-0.parquet"}]})
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")


@pytest.fixture(scope="module")
def hub(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the working folder, in which folders with the names of the hub's data sets replace the hub."""
    import datasets
    from lm_eval import utils

    folder = tmp_path_factory.mktemp("hub")
    write_mmlu(shared_data / "mmlu" / "mmlu.parquet", folder / "cais" / "mmlu")
    write_bbh(shared_data / "bbh" / "bbh.parquet", folder / "SaylorTwift" / "bbh")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        datasets.disable_progress_bars()
        # lm-eval compiles the same template again for every text: 83 s for MMLU.
        patch.setattr(utils.env, "from_string", functools.cache(utils.env.from_string))
        yield folder
        datasets.enable_progress_bars()


def stock_tasks(folder: Path, names: list[str]) -> dict[str, Any]:
    """Load the tasks of a folder of YAML files by lm-eval, without our code."""
    from lm_eval.tasks import TaskManager

    loaded: dict[str, Any] = TaskManager(include_path=str(folder), include_defaults=False).load(names)["tasks"]
    return loaded


def requests_of(task: Any) -> list[tuple[object, ...]]:
    """Return every request of a task, without the number of new tokens, which our settings choose."""
    task.build_all_requests()
    requests = []
    for request in task.instances:
        text, other = request.args
        if isinstance(other, dict):
            other = {key: value for key, value in other.items() if key != "max_gen_toks"}
        requests.append((request.request_type, request.doc_id, request.idx, text, other))
    return requests


def config_of(task: Any) -> dict[str, object]:
    """Return the rest of a task's configuration, without the source of its rows: filters, metrics, splits, version."""
    config: dict[str, Any] = task.config.to_dict()
    config["metadata"].pop("config_source")
    config["generation_kwargs"] = dict(config.get("generation_kwargs") or {}, max_gen_toks=None)
    return {key: value for key, value in config.items() if key not in ("custom_dataset", "dataset_kwargs")}


def documents_of(task: Any) -> list[tuple[object, ...]]:
    """Return the rows as lm-eval hashes them, with the right answer and the choices."""
    has_choices = task.config.doc_to_choice is not None
    return [
        (json.dumps(doc, indent=2), task.doc_to_target(doc), task.doc_to_choice(doc) if has_choices else None)
        for doc in task.eval_docs
    ]


def assert_same(ours: list[Suite], stock: dict[str, Any]) -> int:
    """Compare requests, documents and configuration of all tasks with the stock ones. Return the number of requests."""
    requests_n = 0
    with quiet_harness():
        for name, stock_task in stock.items():
            requests, config, documents = requests_of(stock_task), config_of(stock_task), documents_of(stock_task)
            requests_n += len(requests)
            for suite in ours:
                task = suite.task_dict["tasks"][name]
                assert requests_of(task) == requests, name
                assert config_of(task) == config, name
                assert documents_of(task) == documents, name
    assert all(list(suite.task_dict["tasks"]) == list(stock) for suite in ours)
    return requests_n


@pytest.mark.parametrize(
    ("few_shot", "subjects"),
    [pytest.param(5, list(SUBJECTS), marks=pytest.mark.full), (0, list(SUBJECTS)[::19])],
)
def test_every_mmlu_request_is_the_stock_one(
    hub: Path, shared_data: Path, tmp_path: Path, few_shot: int, subjects: list[str]
) -> None:
    for subject in subjects:
        stock_file = stock_folder("mmlu", "default") / f"mmlu_{subject}.yaml"
        text = f"include: {stock_file}\ntask: mmlu_{subject}\nnum_fewshot: {few_shot}\n"
        (tmp_path / f"{subject}.yaml").write_text(text)
    settings = {"name": "mmlu", "few_shot": few_shot, "tasks": subjects}
    local = mmlu.suite(MmluBenchmark.model_validate(settings | {"source": str(shared_data / "mmlu" / "mmlu.parquet")}))
    from_hub = mmlu.suite(MmluBenchmark.model_validate(settings))
    stock = stock_tasks(tmp_path, [f"mmlu_{subject}" for subject in subjects])
    assert assert_same([local, from_hub], stock) == 4 * sum(SUBJECTS[subject] for subject in subjects)


@pytest.mark.parametrize("prompting", [pytest.param(name, marks=pytest.mark.full) for name in BBH_FOLDERS])
def test_every_bbh_request_is_the_stock_one(hub: Path, shared_data: Path, prompting: str) -> None:
    folder = BBH_FOLDERS[prompting]
    settings = {"name": "bbh", "prompting": prompting, "max_new_tokens": 77}
    local = bbh.suite(BbhBenchmark.model_validate(settings | {"source": str(shared_data / "bbh" / "bbh.parquet")}))
    from_hub = bbh.suite(BbhBenchmark.model_validate(settings))
    stock = stock_tasks(stock_folder("bbh", folder), [f"bbh_{folder}_{name}" for name in SIZES])
    assert assert_same([local, from_hub], stock) == 6511
    for suite in (local, from_hub):
        for task in suite.task_dict["tasks"].values():
            assert {request.args[1]["max_gen_toks"] for request in task.instances} == {77}
