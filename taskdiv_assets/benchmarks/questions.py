"""The questions of a benchmark, built once from lm-eval's tasks and used for every adapter.

An item is one example of a task. A question is one request of lm-eval about an item.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks.item_sampling import drawn, items_by_task
from taskdiv_assets.benchmarks.tasks import Suite, cached_templates
from taskdiv_assets.experiment.benchmark_settings import Extent
from taskdiv_assets.language_model.quiet import quiet_harness

KINDS = ("loglikelihood", "generate_until")


class Item(NamedTuple):
    """One item of a benchmark, with its questions."""

    task: str  # name in the tables
    harness_name: str
    item_id: str
    doc: Any  # the row of the data set, as lm-eval gives it
    requests: tuple[Any, ...]  # lm-eval's `Instance`s, in order
    keys: tuple[str, ...]  # one for each request, a hash of its content
    target: str
    prompt_hash: str  # hash of the first request's prompt, as in lm-eval's logged samples


class Questions(NamedTuple):
    """The items that a benchmark's `Extent` selects, and their questions."""

    suite: Suite
    items: tuple[Item, ...]  # grouped by task; within a task in the order of the source
    requests: Mapping[str, Any]  # distinct requests by key
    sizes: Mapping[str, int]  # number of all items of each task, selected or not


def questions(suite: Suite, extent: Extent) -> Questions:
    """Build the questions about the items that `extent` selects from a suite.

    Raise ValueError if lm-eval cannot build them, or if a task draws answers at random or scores whole texts instead of items.
    """
    tasks = {name: suite.task_dict["tasks"][harness_name] for harness_name, name in suite.task_names.items()}
    with quiet_harness(), cached_templates():
        sizes = {name: len(task.eval_docs) for name, task in tasks.items()}
        asked = items_by_task(extent, sizes)
        items: list[Item] = []
        for harness_name, name in suite.task_names.items():
            items += _items(suite, name, harness_name, asked[name], is_sample=extent.sample is not None)
    requests = {key: one for item in items for key, one in zip(item.keys, item.requests, strict=True)}
    return Questions(suite, tuple(items), requests, sizes)


def _items(suite: Suite, name: str, harness_name: str, asked_n: int, *, is_sample: bool) -> Iterator[Item]:
    """Yield the items of one task."""
    task = suite.task_dict["tasks"][harness_name]
    own_ids = suite.item_ids[name]
    places = asked_places(task.eval_docs if is_sample else (), own_ids, asked_n, is_sample=is_sample)
    try:
        task.build_all_requests(samples=frozenset(places) if is_sample else None, limit=None if is_sample else asked_n)
    except (AssertionError, ValueError) as error:  # raised by lm-eval's samplers of worked examples
        raise ValueError(
            f"lm-eval cannot build the prompts of task {name!r} ({error}); are there as many worked examples as `few_shot` says?"
        ) from error
    by_item: dict[int, list[Any]] = {}
    for request in task.instances:
        _check(request, name)
        by_item.setdefault(request.doc_id, []).append(request)
    groups = [by_item[doc_id] for doc_id in sorted(by_item)]
    ids = item_ids(
        [group[0].doc for group in groups], own_ids and [own_ids[places[doc_id]] for doc_id in sorted(by_item)]
    )
    for item_id, requests in zip(ids, groups, strict=True):
        requests.sort(key=lambda request: request.idx)
        doc, keys = requests[0].doc, tuple(map(key_of, requests))
        target, prompt_hash = str(task.doc_to_target(doc)), hashlib.sha256(requests[0].args[0].encode()).hexdigest()
        yield Item(name, harness_name, item_id, doc, tuple(requests), keys, target, prompt_hash)


def asked_places(docs: Sequence[Any], own_ids: Sequence[str] | None, asked_n: int, *, is_sample: bool) -> list[int]:
    """Return the ascending positions of `asked_n` rows of one task: a sample drawn by hash (`is_sample`), or the first rows."""
    return drawn(own_ids or [_doc_hash(doc) for doc in docs], asked_n) if is_sample else list(range(asked_n))


def item_ids(docs: Sequence[Any], own_ids: Sequence[str] | None) -> list[str]:
    """Return the ids of rows of one task: the ids in the source (`own_ids`), or else lm-eval's hashes of the rows.

    If several rows have the same id, all except the first get a number after the id. BBH has two rows that occur twice.
    """
    seen: Counter[str] = Counter()
    found = []
    for item_id in own_ids or map(_doc_hash, docs):
        seen[item_id] += 1
        found.append(item_id if seen[item_id] == 1 else f"{item_id}-{seen[item_id]}")
    return found


def key_of(request: Any) -> str:
    """Return the key of a question: the first 32 hex digits of a hash of its content."""
    content = json.dumps([request.request_type, *request.args], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _doc_hash(doc: Any) -> str:
    """Return lm-eval's hash of a row, as in its logged samples."""
    from lm_eval.utils import handle_non_serializable, hash_string

    return str(hash_string(json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)))


def _check(request: Any, task: str) -> None:
    if request.request_type not in KINDS:
        raise ValueError(
            f"task {task!r} asks for {request.request_type}, which scores whole texts and not items; expected tasks of "
            f"the kinds multiple_choice, {' or '.join(KINDS)}"
        )
    settings = request.args[1] if request.request_type == "generate_until" else {}
    if settings.get("do_sample") or (settings.get("do_sample") is None and settings.get("temperature")):
        raise ValueError(
            f"task {task!r} draws its answers at random (do_sample), so its scores would not be reproducible; "
            "expected `do_sample: false` in its generation_kwargs"
        )
