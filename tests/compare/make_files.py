"""Small files of scores in the three formats that `taskdiv compare` reads. The scores are drawn; they stand for no model."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DATE = "2026-11-30T10-00-00.000001"
INSPECT_LOGS = Path(__file__).parent / "inspect_logs.tar.xz"


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample(item: int, score: float, task: str = "animals", **changes: Any) -> dict[str, Any]:
    """Return a line of lm-eval's samples with the keys that matter."""
    made = {
        "doc_id": item,
        "doc": {"question": f"{task} {item}"},
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": hashed(f"{task} {item}"),
        "prompt_hash": hashed(f"Q: {task} {item}"),
        "target_hash": hashed("yes"),
        "acc": score,
    }
    return made | changes


def write_samples(folder: Path, task: str, rows: Sequence[Mapping[str, Any]], **results: Any) -> Path:
    """Write a file of samples and, if `results` is given, the results file beside it. Return the folder of the model."""
    model = folder / "some__model"
    model.mkdir(parents=True, exist_ok=True)
    (model / f"samples_{task}_{DATE}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if results:
        (model / f"results_{DATE}.json").write_text(json.dumps(results))
    return folder


def facts(
    task: str = "animals", shots: int = 0, version: int = 1, metric: str = "acc", **changes: Any
) -> dict[str, Any]:
    """Return the parts of a results file of lm-eval that are read."""
    made = {
        "n-shot": {task: shots},
        "versions": {task: version},
        "higher_is_better": {task: {metric: True}},
        "model_name": "some/model",
        "lm_eval_version": "0.4.13",
    }
    return made | changes


def write_csv(path: Path, rows: Sequence[Sequence[object]], head: str = "task,item,score") -> Path:
    path.write_text("".join(f"{line}\n" for line in [head, *(",".join(map(str, row)) for row in rows)]))
    return path


def drawn(
    levels: Mapping[str, float], seeds: Sequence[int] = (0,), items_n: int = 40
) -> list[tuple[str, str, float, int, str]]:
    """Draw right-or-wrong scores (task, item, score, seed, system) of three unequal tasks that all systems share."""
    generator = np.random.default_rng(5)
    sizes = {"long": items_n, "middle": items_n // 2, "short": items_n // 4}
    hard = {(task, item): generator.normal() for task, size in sizes.items() for item in range(size)}
    rows = []
    for name, level in levels.items():
        for seed in seeds:
            shift = generator.normal() * 0.2
            for (task, item), own in hard.items():
                right = own + level + shift + generator.normal() * 0.6 > 0
                rows.append((task, f"i{item}", float(right), seed, name))
    return rows


def unpacked(folder: Path) -> dict[str, Path]:
    """Unpack the logs that inspect_ai wrote (see make_inspect_logs)."""
    with tarfile.open(INSPECT_LOGS) as packed:
        packed.extractall(folder, filter="data")
    return {name: folder / name for name in ("good", "poor")}
