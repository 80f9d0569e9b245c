"""What outputs and verdicts depend on; no instruction is read for the hub's source, and nothing downloaded."""

from __future__ import annotations

from taskdiv_assets.benchmarks.alpaca.difficulty import difficulty_sha256
from taskdiv_assets.benchmarks.alpaca.instructions import source_sha256
from taskdiv_assets.benchmarks.alpaca.prompts import PROMPT_VERSION
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark, Judge
from taskdiv_assets.storage.identity import digest

FOLDER = "verdicts"


def outputs(benchmark: AlpacaEvalBenchmark, template: str) -> dict[str, object]:
    """What changes what a model writes."""
    return {
        "name": "alpaca_eval",
        "source": source_sha256(benchmark.source),
        "limit": benchmark.limit,
        "sample": benchmark.sample,
        "max_new_tokens": benchmark.max_new_tokens,
        "template": template,
    }


def verdicts(benchmark: AlpacaEvalBenchmark) -> dict[str, object]:
    """Return what changes scores besides the outputs: who judges and how, and a file of difficulties where there is one.

    A pair's imported verdict never changes, so which verdicts there are is left out.
    """
    found: dict[str, object] = {"judge": "" if benchmark.judge is None else judge_folder(benchmark.judge)}
    if benchmark.instruction_difficulty is not None:
        found["instruction_difficulty"] = difficulty_sha256(benchmark.instruction_difficulty)
    return found


def judge_folder(judge: Judge) -> str:
    """Where one judge's verdicts lie in the store: the same for every experiment file that asks it in the same way."""
    if judge.annotator is not None:
        return digest({"annotator": judge.annotator})
    return digest({"model": judge.model, "weighted": judge.weighted, "prompt_version": PROMPT_VERSION})
