"""Samples written by lm-eval itself: a random model of characters with two LoRA adapters answers two small tasks.

`python -m tests.compare.make_lm_eval_samples FOLDER` writes them as the tests do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.benchmark_tasks.test_own_tasks import ANIMALS, CHOICE, SUMS, WRITTEN, add
from tests.language_model.characters import load_family


def make_samples(folder: Path) -> dict[str, Path]:
    """Evaluate two adapters, and return by name the folders that lm-eval would have as `--output_path`."""
    import peft
    from lm_eval.tasks import TaskManager

    tasks = folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    add(tasks, CHOICE, ANIMALS * 4, task="animals")
    add(tasks, WRITTEN, SUMS, task="sums")
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    lm = load_family("llama", folder / "base")
    settings = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = peft.get_peft_model(lm.model, settings).eval()
    names = ("first", "second")
    with patch(
        "torch.utils.collect_env.get_pip_packages", lambda _: ("pip", "")
    ):  # lm-eval asks for it; it takes seconds
        return {name: _evaluate(model, lm.tokenizer, manager, folder / name, seed) for seed, name in enumerate(names)}


def _evaluate(model: Any, tokenizer: Any, manager: Any, output: Path, seed: int) -> Path:
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM

    torch.manual_seed(seed)
    for part, weights in model.named_parameters():
        if "lora_B" in part:
            torch.nn.init.normal_(weights, std=1.0)
    tracker = EvaluationTracker(output_path=str(output))
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)
    results: Any = simple_evaluate(
        model=harness, tasks=["animals", "sums"], task_manager=manager, bootstrap_iters=0, evaluation_tracker=tracker
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    return output


if __name__ == "__main__":
    make_samples(Path(sys.argv[1]))
