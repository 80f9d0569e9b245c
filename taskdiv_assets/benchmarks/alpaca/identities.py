"""The settings that determine outputs and verdicts; nothing is downloaded, and no instruction of the hub's source is read."""

from __future__ import annotations

from taskdiv_assets.benchmarks.alpaca.difficulty import difficulty_sha256
from taskdiv_assets.benchmarks.alpaca.instructions import source_sha256
from taskdiv_assets.benchmarks.alpaca.prompts import PROMPT_VERSION
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark, Judge
from taskdiv_assets.storage.identity import digest

FOLDER = "verdicts"


def outputs(benchmark: AlpacaEvalBenchmark, template: str) -> dict[str, object]:
    """Return the settings that determine what a model writes."""
    return {
        "name": "alpaca_eval",
        "source": source_sha256(benchmark.source),
        "limit": benchmark.limit,
        "sample": benchmark.sample,
        "max_new_tokens": benchmark.max_new_tokens,
        "template": template,
    }


def verdicts(benchmark: AlpacaEvalBenchmark) -> dict[str, object]:
    """Return the settings that determine scores besides the outputs: the judge, and a file of difficulties if there is one.

    A pair's imported verdict never changes, so the set of known verdicts is left out.
    """
    found: dict[str, object] = {"judge": "" if benchmark.judge is None else judge_folder(benchmark.judge)}
    if benchmark.instruction_difficulty is not None:
        found["instruction_difficulty"] = difficulty_sha256(benchmark.instruction_difficulty)
    return found


def judge_folder(judge: Judge) -> str:
    """Return the folder of one judge's verdicts in the store, the same for every experiment file that asks it in the same way."""
    if judge.annotator is not None:
        return digest({"annotator": judge.annotator})
    return digest({"model": judge.model, "weighted": judge.weighted, "prompt_version": PROMPT_VERSION})
