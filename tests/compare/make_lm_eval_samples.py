"""Samples written by lm-eval itself: a random model of characters with two LoRA adapters answers two small tasks.

`python -m tests.compare.make_lm_eval_samples FOLDER` writes them as the tests do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.benchmark_tasks.test_own_tasks import ANIMALS, CHOICE, SUMS, WRITTEN, add
from tests.language_model.characters import load_family


def make_samples(folder: Path, names: tuple[str, ...] = ("first", "second"), shots: int = 0) -> dict[str, Path]:
    """Evaluate an adapter for each name, and return the folders that lm-eval would have as `--output_path`."""
    import peft
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tasks = folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    add(tasks, CHOICE, ANIMALS * 4, task="animals", num_fewshot=shots, fewshot_split="test" if shots else None)
    add(tasks, WRITTEN, SUMS, task="sums")
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    lm = load_family("llama", folder / "base")
    settings = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = peft.get_peft_model(lm.model, settings).eval()
    found = {}
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        for part, weights in model.named_parameters():
            if "lora_B" in part:
                torch.nn.init.normal_(weights, std=1.0)
        tracker = EvaluationTracker(output_path=str(folder / name))
        harness = HFLM(pretrained=model, tokenizer=lm.tokenizer, batch_size=8)
        results: Any = simple_evaluate(
            model=harness,
            tasks=["animals", "sums"],
            task_manager=manager,
            bootstrap_iters=0,
            evaluation_tracker=tracker,
        )
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        for task in results["configs"]:
            tracker.save_results_samples(task_name=task, samples=samples[task])
        found[name] = folder / name
    return found


if __name__ == "__main__":
    make_samples(Path(sys.argv[1]))
