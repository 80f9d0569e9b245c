"""The loads of `evaluators`: lm-eval's requests of real benchmarks, and models for them.

A model with random weights has a context of 4,096 tokens, so that worked examples fit. Its tokenizer is trained on the texts of
the benchmarks, so that prompts have as many tokens as with a real tokenizer.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from taskdiv_assets.language_model.loading import LanguageModel, load
from tests.benchmarks.random_llama import END, Shape, build

READER = Shape(256, 688, 4, 4, 8_192, 4_096)
SUBJECTS = ("anatomy", "marketing", "philosophy", "virology", "sociology", "astronomy")
BBH_TASKS = ("navigate", "date_understanding")
NEW_TOKENS = 64
CONTEXT_CHARACTERS, ENDING_CHARACTERS = range(800, 2_000), range(80, 300)
ENDINGS_N = 4


class Load(NamedTuple):
    """The requests of one benchmark for one model."""

    name: str
    lm: LanguageModel
    requests: Mapping[str, Any]  # lm-eval's instances by key
    items: Sequence[Sequence[str]]  # the keys of each item's answers
    as_trained: bool = False


def lab(base: Path, tasks: Sequence[str] | None = None) -> Load:
    """Return the requests of the lab's held-out items, with one answer for each item."""
    from taskdiv_assets.benchmarks import suite_of
    from taskdiv_assets.experiment.benchmark_settings import LabBenchmark
    from taskdiv_assets.experiment.pool_settings import Pool

    lm = load(base, dtype="float32", attention="sdpa")
    pool = Pool(reader="lab", tasks=None if tasks is None else list(tasks))
    made = suite_of(LabBenchmark(name="lab"), pool=pool, template="{prompt}", lm=lm)
    return _load("the lab's items", lm, made.suite, made.extent, as_trained=made.as_trained)


def mmlu(data: Path, lm: LanguageModel, items_n: int) -> Load:
    """Return the requests of the first questions of some subjects, with five worked examples."""
    from taskdiv_assets.benchmarks import mmlu as package
    from taskdiv_assets.experiment.benchmark_settings import MmluBenchmark

    benchmark = MmluBenchmark(name="mmlu", source=str(data / "mmlu" / "mmlu.parquet"), tasks=SUBJECTS, limit=items_n)
    return _load("MMLU", lm, package.suite(benchmark), benchmark)


def bbh(data: Path, lm: LanguageModel, items_n: int) -> Load:
    """Return the requests of the first questions of some tasks, with three worked chains of thought."""
    from taskdiv_assets.benchmarks import bbh as package
    from taskdiv_assets.experiment.benchmark_settings import BbhBenchmark

    benchmark = BbhBenchmark(
        name="bbh",
        source=str(data / "bbh" / "bbh.parquet"),
        tasks=BBH_TASKS,
        limit=items_n,
        max_new_tokens=NEW_TOKENS,
    )
    return _load("BBH", lm, package.suite(benchmark), benchmark)


def endings(rows: Sequence[tuple[str, str]], lm: LanguageModel) -> Load:
    """Return requests that ask which ending belongs to a context: its own ending, or those of the next rows.

    Args:
        rows: contexts with their endings.
        lm: the model.
    """
    from lm_eval.api.instance import Instance

    requests = {}
    for place, (context, _) in enumerate(rows):
        for index in range(ENDINGS_N):
            arguments = (context, f" {rows[(place + index) % len(rows)][1]}")
            requests[f"{place}-{index}"] = Instance("loglikelihood", {}, arguments, index, ("endings", place, 1))
    items = [[f"{place}-{index}" for index in range(ENDINGS_N)] for place in range(len(rows))]
    return Load("endings", lm, requests, items)


def answers(rows: Sequence[tuple[str, str]], lm: LanguageModel) -> Load:
    """Return one question for each prompt: how likely is its answer?"""
    from lm_eval.api.instance import Instance

    requests = {
        str(place): Instance("loglikelihood", {}, row, 0, ("answers", place, 1)) for place, row in enumerate(rows)
    }
    return Load("answers", lm, requests, [[key] for key in requests])


def dolly_rows(data: Path, rows_n: int) -> list[tuple[str, str]]:
    """Return Dolly's questions on a long context, with answers of some sentences."""
    found = []
    with gzip.open(data / "dolly" / "databricks-dolly-15k.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if len(row["context"]) in CONTEXT_CHARACTERS and len(row["response"]) in ENDING_CHARACTERS:
                found.append((f"{row['context']}\n\n{row['instruction']}\n", row["response"]))
    return found[:rows_n]


def _load(name: str, lm: LanguageModel, suite: Any, extent: Any, *, as_trained: bool = False) -> Load:
    from taskdiv_assets.benchmarks.questions import questions

    asked = questions(suite, extent)
    return Load(name, lm, asked.requests, [item.keys for item in asked.items], as_trained)


def stories(data: Path) -> LanguageModel:
    """Return a model with 260,032 trained parameters and a context of 512 tokens."""
    return load(data / "models" / "stories260K", dtype="float32", attention="sdpa")


def reader(data: Path) -> LanguageModel:
    """Return a model with random weights and a tokenizer that is trained on the texts of the benchmarks."""
    import pyarrow.parquet as pq

    questions = pq.read_table(data / "mmlu" / "mmlu.parquet", columns=["question"])["question"].to_pylist()
    inputs = pq.read_table(data / "bbh" / "bbh.parquet", columns=["input"])["input"].to_pylist()
    return with_tokenizer(READER, [*questions[:4_000], *inputs])


def with_tokenizer(shape: Shape, texts: Iterable[str]) -> LanguageModel:
    """Return a random Llama with byte pairs that are trained on `texts`. Each token except the end token has a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=END, eos_token=END, padding_side="left")
    return build(shape, "cpu")._replace(tokenizer=wrapped)
