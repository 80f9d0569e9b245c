"""One lm-eval run: a suite of tasks asked of the model as it is now, and its scores item by item."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from taskdiv_assets.benchmarks.quiet import quiet
from taskdiv_assets.benchmarks.tasks import Suite

if TYPE_CHECKING:
    import pyarrow as pa

NOTES_KEY = b"taskdiv_notes"


class ScoredItem(NamedTuple):
    """One metric of one item: a row of benchmark_scores without its seeds."""

    benchmark: str
    task: str
    item_id: str
    metric: str
    score: float
    prompt_hash: str


def evaluate(model: Any, suite: Suite) -> pa.Table:
    """Scores of a model as it is now, sorted by (task, item_id, metric).

    Args:
        suite: the benchmark's tasks.
        model: from `scoring_model`; tokens that it made for one adapter serve the next.

    Returns:
        Columns benchmark, task, item_id, metric, score, prompt_hash, and the notes that `notes_of` reads.

    Raises:
        ValueError: a log-likelihood or a score is not finite, or a prompt leaves no room for the answer.
    """
    with quiet():
        from lm_eval.evaluator import evaluate as harness_evaluate

        model.cut_prompts_n = 0
        # bootstrap_iters=0: its standard errors are not ours (items within tasks and seeds are random: reports).
        results = harness_evaluate(model, suite.task_dict, limit=suite.limit, bootstrap_iters=0, log_samples=True)
    rows = [
        row
        for harness_name, name in suite.task_names.items()
        for row in _rows(suite.benchmark, name, results["samples"][harness_name], suite.item_ids[name])
    ]
    return _table(rows, {"cut_prompts_n": model.cut_prompts_n, "limit": suite.limit, "batch_size": suite.batch_size})


def notes_of(table: pa.Table) -> dict[str, int | None]:
    """What a table of scores says beside its rows: cut_prompts_n (over the model's length), limit, batch_size."""
    notes: dict[str, int | None] = json.loads(table.schema.metadata[NOTES_KEY])
    return notes


def _rows(
    benchmark: str, task: str, samples: Sequence[Mapping[str, Any]], own_ids: Sequence[str] | None
) -> Iterator[ScoredItem]:
    """Rows of one task, from lm-eval's samples."""
    seen: Counter[str] = Counter()
    for sample in samples:
        item_id = own_ids[sample["doc_id"]] if own_ids is not None else str(sample["doc_hash"])
        seen[item_id] += 1
        if seen[item_id] > 1:  # two rows of BBH stand twice in their task
            item_id = f"{item_id}-{seen[item_id]}"
        for metric in sample["metrics"]:
            score = float(sample[metric])
            if not math.isfinite(score) or not all(map(math.isfinite, _log_likelihoods(sample))):
                raise ValueError(
                    f"benchmark {benchmark!r}, task {task!r}, item {item_id!r}: the model's answer or its {metric} is "
                    "not a finite number; are the model's weights finite, and does its dtype hold its activations?"
                )
            yield ScoredItem(benchmark, task, item_id, metric, score, str(sample["prompt_hash"]))


def _log_likelihoods(sample: Mapping[str, Any]) -> Iterator[float]:
    """The log-likelihoods among a sample's raw answers, in nats; generated text has none."""
    for answers in sample["resps"]:
        for answer in answers:
            if isinstance(answer, tuple):
                yield float(answer[0])


def _table(rows: Sequence[ScoredItem], notes: Mapping[str, object]) -> pa.Table:
    """Rows as an Arrow table in the store's order."""
    import pyarrow as pa

    rows = sorted(rows, key=lambda row: (row.task, row.item_id, row.metric))
    fields = [
        pa.field(name, pa.float64() if name == "score" else pa.string(), nullable=False) for name in ScoredItem._fields
    ]
    schema = pa.schema(fields, metadata={NOTES_KEY: json.dumps(notes).encode()})
    return pa.table([[row[i] for row in rows] for i in range(len(fields))], schema=schema)
