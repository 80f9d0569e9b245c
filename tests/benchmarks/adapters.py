"""Scoring k adapters of one base model on the lab's held-out items: by our code, and in two ways by lm-eval.

    python -m tests.benchmarks.adapters WAY REQUEST RESULT

Each side runs in its own process. The measured time is that of the whole process: imports, loading, scoring and writing the
results. lm-eval reads the items from JSON files by task files that use no function of this project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.fresh import ROOT

HARNESS_BATCH = 32  # the best of 1, 8, 16 and 32 on these items
RANK, ALPHA = 16, 32  # as in demo.yaml
NOISE = 0.02  # of the adapters' second matrices: answers change, and most of what the base can do is kept
Saying = tuple[float, bool]  # log-likelihood of the answer in nats, and whether greedy decoding would write it
Found = dict[str, Saying]  # by item
Scored = list[Found]  # by adapter


class Lab(NamedTuple):
    """The inputs of every side of the comparison."""

    base: Path
    adapters: tuple[Path, ...]
    tasks_folder: Path  # task files of lm-eval
    tasks: tuple[str, ...]  # of the lab; None of them is left out

    def of(self, adapters_n: int) -> Lab:
        """Return a copy with only the first adapters."""
        return self._replace(adapters=self.adapters[:adapters_n])


class Timed(NamedTuple):
    """The duration and the scores of one process."""

    wall_s: float
    scored: Scored


def prepare(folder: Path, base: Path, tasks: Sequence[str] | None, adapters_n: int) -> Lab:
    """Write adapters with random weights, and the items as files for lm-eval."""
    from taskdiv_assets.pools.lab import held_out_items

    by_task: dict[str, list[dict[str, str]]] = {}
    for item in held_out_items("test", 1, tasks):
        row = {"item_id": item.item_id, "prompt": item.prompt, "target": item.response + "<eos>"}
        by_task.setdefault(item.task, []).append(row)
    tasks_folder = folder / "tasks"
    tasks_folder.mkdir()
    for name, rows in by_task.items():
        file = tasks_folder / f"{name}.json"
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        text = json.dumps(_task(name, file))  # JSON is YAML
        (tasks_folder / f"lab_{name}.yaml").write_text(text, encoding="utf-8")
    adapters = tuple(_adapter(base, folder / f"adapter{seed}", seed) for seed in range(adapters_n))
    return Lab(base, adapters, tasks_folder, tuple(by_task))


def _task(name: str, file: Path) -> dict[str, object]:
    return {
        "task": f"lab_{name}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{target}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


def _adapter(base: Path, folder: Path, seed: int) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model

    from taskdiv_assets.language_model.loading import load

    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load(base, dtype="float32", attention="sdpa").model, config)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=NOISE)
    model.save_pretrained(folder)
    return folder


def ours(lab: Lab) -> Scored:
    """Score all adapters with one loaded base model."""
    import torch

    from taskdiv_assets.experiment.benchmark_settings import LabBenchmark
    from taskdiv_assets.experiment.pool_settings import Pool
    from taskdiv_assets.language_model.loading import load
    from tests.benchmark_tasks.scoring import score

    torch.set_num_threads(1)
    lm = load(lab.base, dtype="float32", attention="sdpa")
    pool = Pool(reader="lab", tasks=list(lab.tasks))
    found = score(lm, dict(enumerate(lab.adapters)), LabBenchmark(name="lab"), pool=pool)
    rows = [found[seed].outputs.to_pydict() for seed in range(len(lab.adapters))]
    return [dict(zip(row["item_id"], zip(row["nats"], row["is_greedy"], strict=True), strict=True)) for row in rows]


def harness_loop(lab: Lab) -> Scored:
    """Score with lm-eval in one process: a new HFLM for each adapter, but imports and the index of tasks only once."""
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(1)
    manager = TaskManager(include_path=str(lab.tasks_folder), include_defaults=False)
    found = []
    for adapter in lab.adapters:
        lm = HFLM(pretrained=str(lab.base), peft=str(adapter), dtype="float32", batch_size=HARNESS_BATCH, device="cpu")
        results: Any = simple_evaluate(model=lm, tasks=_names(lab), task_manager=manager, bootstrap_iters=0)
        found.append(_read([row for rows in results["samples"].values() for row in rows]))
    return found


def call_arguments(lab: Lab, output: Path) -> list[str]:
    """Return the arguments of `lm_eval` for one adapter."""
    return [
        "run", "--model", "hf",
        "--model_args", f"pretrained={lab.base},peft={lab.adapters[0]},dtype=float32",
        "--tasks", ",".join(_names(lab)), "--include_path", str(lab.tasks_folder),
        "--device", "cpu", "--batch_size", str(HARNESS_BATCH), "--log_samples", "--output_path", str(output),
    ]  # fmt: skip


def read_samples(output: Path) -> Found:
    """Return the samples that one call of lm-eval's command line wrote."""
    lines = [line for file in output.rglob("samples_*.jsonl") for line in file.read_text().splitlines()]
    return _read([json.loads(line) for line in lines])


def _read(samples: Sequence[Mapping[str, Any]]) -> Found:
    """Convert lm-eval's samples. They contain numbers in memory, and texts in files."""
    found = {}
    for sample in samples:
        ((nats, is_greedy),) = sample["filtered_resps"]
        found[sample["doc"]["item_id"]] = float(nats), str(is_greedy) == "True"
    return found


def _names(lab: Lab) -> list[str]:
    return [f"lab_{name}" for name in lab.tasks]


def timed_process(way: str, lab: Lab) -> Timed:
    """Run `ours` or `harness_loop` in a new interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        request, result = Path(folder) / "request.json", Path(folder) / "result.json"
        request.write_text(json.dumps(lab._asdict(), default=str))
        wall_s = _run(
            [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.adapters", way, str(request), str(result)]
        )
        return _told(way, len(lab.adapters), Timed(wall_s, json.loads(result.read_text())))


def timed_call(lab: Lab) -> Timed:
    """Run lm-eval's command line for the first adapter."""
    with tempfile.TemporaryDirectory() as folder:
        wall_s = _run([sys.executable, "-W", "ignore", "-m", "lm_eval", *call_arguments(lab, Path(folder))])
        return _told("lm_eval", 1, Timed(wall_s, [read_samples(Path(folder))]))


def _run(command: Sequence[str]) -> float:
    """Run a command, and return its wall time in seconds. If it fails, raise RuntimeError with the end of its stderr."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[3:6])} … ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - started


def _told(name: str, adapters_n: int, timed: Timed) -> Timed:
    print(f"  {name}, {adapters_n} adapters: {timed.wall_s:.1f} s", flush=True)
    return timed


def _in_this_process(way: str, request: Path, result: Path) -> None:
    asked = json.loads(request.read_text())
    paths = tuple(map(Path, asked["adapters"]))
    lab = Lab(Path(asked["base"]), paths, Path(asked["tasks_folder"]), tuple(asked["tasks"]))
    result.write_text(json.dumps({"ours": ours, "harness_loop": harness_loop}[way](lab)))


if __name__ == "__main__":
    _in_this_process(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
