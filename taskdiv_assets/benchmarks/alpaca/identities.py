"""Collect the settings that determine instructions, outputs and verdicts.

The hub's source is not downloaded: its identity is `hub`.
"""

from __future__ import annotations

from taskdiv_assets.benchmarks.alpaca.difficulty import difficulty_sha256
from taskdiv_assets.benchmarks.alpaca.instructions import source_sha256
from taskdiv_assets.benchmarks.alpaca.prompts import PROMPT_VERSION
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark, Judge
from taskdiv_assets.storage.identity import digest

FOLDER = "verdicts"


def instructions(benchmark: AlpacaEvalBenchmark) -> dict[str, object]:
    """Return the settings that determine the chosen instructions."""
    return {
        "name": "alpaca_eval",
        "source": source_sha256(benchmark.source),
        "limit": benchmark.limit,
        "sample": benchmark.sample,
    }


def outputs(benchmark: AlpacaEvalBenchmark, template: str) -> dict[str, object]:
    """Return the settings of the benchmark that determine a model's outputs. The caller adds the base model's settings."""
    return {**instructions(benchmark), "max_new_tokens": benchmark.max_new_tokens, "template": template}


def verdicts(benchmark: AlpacaEvalBenchmark) -> dict[str, object]:
    """Return the settings that determine the scores of given outputs: the judge and the optional file of difficulties."""
    found: dict[str, object] = {"judge": "" if benchmark.judge is None else judge_folder(benchmark.judge)}
    if benchmark.instruction_difficulty is not None:
        found["instruction_difficulty"] = difficulty_sha256(benchmark.instruction_difficulty)
    return found


def judge_folder(judge: Judge) -> str:
    """Return the name of a judge's folder of verdicts. It depends only on the settings that change a verdict."""
    if judge.annotator is not None:
        return digest({"annotator": judge.annotator})
    return digest({"model": judge.model, "weighted": judge.weighted, "prompt_version": PROMPT_VERSION})
