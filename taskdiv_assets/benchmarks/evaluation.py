"""Scores from answers: lm-eval's filters and metrics applied to a model's answers, item by item."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from taskdiv_assets.benchmarks.answering import Answer
from taskdiv_assets.benchmarks.questions import Item, Questions
from taskdiv_assets.benchmarks.tasks import cached_templates
from taskdiv_assets.language_model.quiet import quiet_harness

if TYPE_CHECKING:
    import pyarrow as pa


NOTHING_READ = "[invalid]"  # the result of lm-eval's filters if they find no answer


class ScoredItem(NamedTuple):
    """One metric of one item: a row of benchmark_scores without its seeds."""

    benchmark: str
    task: str
    item_id: str
    metric: str
    score: float
    prompt_hash: str


class Output(NamedTuple):
    """A model's answer to one question about an item, for reading."""

    task: str
    item_id: str
    question: int  # 0 for the first
    text: str | None  # written by the model
    nats: float | None  # log-likelihood of the given answer
    is_greedy: bool | None
    extracted: str  # result of the first filter


class Evaluated(NamedTuple):
    """The scores of all items."""

    rows: list[ScoredItem]
    outputs: list[Output]
    blanks_n: int  # items that score higher without the blanks and line breaks around what a filter read


def scored_items(
    benchmark: str,
    asked: Questions,
    answers: Mapping[str, Answer],  # by the question's key
    metrics: Sequence[str],  # to keep; `metric,filter` as in lm-eval if a task reads its answers in several ways
    *,
    strip: bool = False,  # remove blanks and line breaks around the text that a filter read, before the comparison
) -> Evaluated:
    """Score every item.

    Raises:
        ValueError: a log-likelihood or a score is not finite, a score is outside 0..1, or a metric does not exist.
    """
    found = Evaluated([], [], 0)
    by_task: dict[str, list[Item]] = {}
    for item in asked.items:
        by_task.setdefault(item.harness_name, []).append(item)
    with quiet_harness(), cached_templates():
        for harness_name, items in by_task.items():
            task = asked.suite.task_dict["tasks"][harness_name]
            _put(items, answers)
            _filter(task, items)
            for item in items:
                stock = _metrics(task, item, strip=False)
                bare = _metrics(task, item, strip=True) if _has_blanks(item) else stock
                rows = list(_rows(benchmark, item, metrics, bare if strip else stock))
                is_higher = any(_is_higher(bare[metric], stock[metric]) for metric in metrics)
                found.rows.extend(rows)
                found.outputs.extend(_outputs(item, answers, strip=strip))
                found = found._replace(blanks_n=found.blanks_n + is_higher)
    return found


def _put(items: Sequence[Item], answers: Mapping[str, Answer]) -> None:
    for item in items:
        for request, key in zip(item.requests, item.keys, strict=True):
            request.resps = [answers[key].response] * (request.repeats or 1)
            request.filtered_resps = {}


def _filter(task: Any, items: Sequence[Item]) -> None:
    """Apply the task's filters to the answers; a text that makes a filter raise counts as one without an answer.

    Two filters of lm-eval raise on texts such as "two thousand thousand", which would lose a whole cell.
    """
    for ensemble in task._filters:
        try:
            ensemble.apply(task.instances)
        except Exception:  # whatever a task's own filter raises on a text that a model wrote
            for item in items:
                try:
                    ensemble.apply(list(item.requests))
                except Exception:
                    for request in item.requests:
                        request.filtered_resps[ensemble.name] = NOTHING_READ


def _metrics(task: Any, item: Item, *, strip: bool) -> dict[str, object]:
    """Return all metrics of an item by name, for the text that the filters read, with or without the blanks around it."""
    filters = list(item.requests[0].filtered_resps)
    found: dict[str, object] = {}
    for name in filters:
        read = [request.filtered_resps[name] for request in item.requests]
        values = task.process_results(item.doc, [_stripped(one) for one in read] if strip else read)
        found |= {metric if len(filters) == 1 else f"{metric},{name}": value for metric, value in values.items()}
    return found


def _has_blanks(item: Item) -> bool:
    reads = [read for request in item.requests for read in request.filtered_resps.values()]
    return any(_stripped(read) != read for read in reads if isinstance(read, str | list))


def _stripped(read: Any) -> Any:
    if isinstance(read, list):
        return [_stripped(one) for one in read]
    return read.strip() if isinstance(read, str) else read


def _is_higher(value: Any, other: Any) -> bool:
    return hasattr(value, "__float__") and hasattr(other, "__float__") and bool(float(value) > float(other))


def _rows(benchmark: str, item: Item, metrics: Sequence[str], found: Mapping[str, object]) -> Iterator[ScoredItem]:
    missing = [metric for metric in metrics if metric not in found]
    if missing:
        raise ValueError(
            f"benchmark {benchmark!r}, task {item.task!r} has no metric {missing[0]!r}; expected some of "
            f"{', '.join(sorted(found))}"
        )
    for metric in metrics:
        yield ScoredItem(
            benchmark,
            item.task,
            item.item_id,
            metric,
            _checked(benchmark, item, metric, found[metric]),
            item.prompt_hash,
        )


def _checked(benchmark: str, item: Item, metric: str, value: Any) -> float:
    where = f"benchmark {benchmark!r}, task {item.task!r}, item {item.item_id!r}"
    if not isinstance(value, bool | int | float) and not hasattr(value, "__float__"):
        raise ValueError(
            f"{where}: {metric} is {value!r}, which is not a number; expected a metric that scores each item, 0 to 1"
        )
    score = float(value)
    answers = [answer for request in item.requests for answer in request.resps if isinstance(answer, tuple)]
    if not math.isfinite(score) or not all(math.isfinite(answer[0]) for answer in answers):
        raise ValueError(
            f"{where}: the model's answer or its {metric} is "
            "not a finite number; are the model's weights finite, and does its dtype hold its activations?"
        )
    if not 0 <= score <= 1:
        raise ValueError(f"{where}: {metric} is {score!r}; expected a metric that scores each item from 0 to 1")
    return score


def _outputs(item: Item, answers: Mapping[str, Answer], *, strip: bool) -> Iterator[Output]:
    for place, (request, key) in enumerate(zip(item.requests, item.keys, strict=True)):
        read = next(iter(request.filtered_resps.values()), "")
        extracted = _stripped(read) if strip else read
        yield Output(item.task, item.item_id, place, *answers[key], extracted if isinstance(extracted, str) else "")


def scores_table(rows: Sequence[ScoredItem]) -> pa.Table:
    """Return scores in the store's order: sorted by (task, item_id, metric)."""
    import pyarrow as pa

    rows = sorted(rows, key=lambda row: (row.task, row.item_id, row.metric))
    fields = [
        pa.field(name, pa.float64() if name == "score" else pa.string(), nullable=False) for name in ScoredItem._fields
    ]
    return pa.table([[row[i] for row in rows] for i in range(len(fields))], schema=pa.schema(fields))


def outputs_table(outputs: Sequence[Output]) -> pa.Table:
    """Return outputs sorted by (task, item_id, question)."""
    import pyarrow as pa

    outputs = sorted(outputs, key=lambda row: (row.task, row.item_id, row.question))
    types = {"question": pa.int32(), "nats": pa.float64(), "is_greedy": pa.bool_()}
    schema = pa.schema([pa.field(name, types.get(name, pa.string())) for name in Output._fields])
    return pa.table([[row[i] for row in outputs] for i in range(len(schema))], schema=schema)


def questions_table(asked: Questions) -> pa.Table:
    """Return the questions, sorted by (task, item_id, question); the same for every adapter."""
    import pyarrow as pa

    rows = [
        (item.task, item.item_id, place, request.args[0], _choice(request), item.target, item.prompt_hash)
        for item in asked.items
        for place, request in enumerate(item.requests)
    ]
    rows.sort(key=lambda row: row[:3])
    names = ("task", "item_id", "question", "prompt", "answer", "target", "prompt_hash")
    schema = pa.schema([(name, pa.int32() if name == "question" else pa.string()) for name in names])
    return pa.table([[row[i] for row in rows] for i in range(len(schema))], schema=schema)


def _choice(request: Any) -> str | None:
    """Return the answer whose likelihood is asked for; None if a text is to be written."""
    return str(request.args[1]) if request.request_type == "loglikelihood" else None
