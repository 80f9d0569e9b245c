"""What outputs and verdicts depend on; no instruction is read for the hub's source, and nothing downloaded."""

from __future__ import annotations

from taskdiv_assets.alpaca.instructions import source_sha256
from taskdiv_assets.alpaca.prompts import PROMPT_VERSION
from taskdiv_assets.benchmark_settings import AlpacaEvalBenchmark, Judge
from taskdiv_assets.identity import digest
from taskdiv_assets.store import Store

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


def judge(benchmark: AlpacaEvalBenchmark, store: Store) -> dict[str, object]:
    """What changes the verdicts: who judges and how; of imported ones, which there are."""
    if benchmark.judge is None:
        return {}
    who = judge_folder(benchmark.judge)
    names = store.names(FOLDER, who) if benchmark.judge.annotator else []
    parts = [
        name for name in names if name.endswith(".parquet")
    ]  # others are being written, or their writer was killed
    imported = digest(parts) if benchmark.judge.annotator else ""
    return {"judge": who, "imported": imported}


def judge_folder(judge: Judge) -> str:
    """Where one judge's verdicts lie in the store: the same for every experiment file that asks it in the same way."""
    if judge.annotator is not None:
        return digest({"annotator": judge.annotator})
    return digest({"model": judge.model, "weighted": judge.weighted, "prompt_version": PROMPT_VERSION})
