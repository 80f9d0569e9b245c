"""The text of each item of a benchmark as a person would ask it: without worked examples, choices and template.

These texts are compared with the prompts of a pool (asset `contamination`). No model is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks.item_sampling import items_by_task
from taskdiv_assets.benchmarks.questions import asked_places, item_ids
from taskdiv_assets.benchmarks.tasks import Suite, cached_templates
from taskdiv_assets.experiment.benchmark_settings import Extent
from taskdiv_assets.language_model.quiet import quiet_harness


class ItemText(NamedTuple):
    """The text of one item. `task` and `item_id` are the same as in the table of scores."""

    task: str
    item_id: str
    text: str


def texts_of(suite: Suite, extent: Extent) -> list[ItemText]:
    """Return the texts of the items that `extent` selects from a suite, grouped by task."""
    tasks = {name: suite.task_dict["tasks"][harness_name] for harness_name, name in suite.task_names.items()}
    found = []
    with quiet_harness(), cached_templates():
        docs_of = {name: task.eval_docs for name, task in tasks.items()}
        asked = items_by_task(extent, {name: len(docs) for name, docs in docs_of.items()})
        for name, docs in docs_of.items():
            own = suite.item_ids[name]
            places = asked_places(docs, own, asked[name], is_sample=extent.sample is not None)
            rows = [docs[place] for place in places]
            ids = item_ids(rows, own and [own[place] for place in places])
            prompts = map(tasks[name].doc_to_text, rows)
            found += [
                ItemText(name, one, asked_text(row, text)) for one, row, text in zip(ids, rows, prompts, strict=True)
            ]
    return found


def asked_text(doc: Any, prompt: object) -> str:
    """Return the longest of the row's texts that occur in its prompt, such as the question of MMLU or the passage of SQuAD.

    `prompt` is the prompt that lm-eval makes from the row, without worked examples. If no text of the row occurs in the prompt,
    return the prompt. If the prompt is blank or not a text (some tasks have a number as the prompt), return the longest text of
    the row. White space around the returned text is removed.

    >>> asked_text({"q": "Why?", "choices": ["a", "b"], "id": "x7"}, "Question: Why?\\nA. a\\nB. b\\nAnswer:")
    'Why?'
    """
    own = [text for text in map(str.strip, _texts_in(doc)) if text]
    if isinstance(prompt, str) and prompt.strip():
        own = [text for text in own if text in prompt] or [prompt.strip()]
    return max(own, key=len, default="")


def _texts_in(doc: Any) -> Iterator[str]:
    """Yield the texts of a row and of mappings inside it. Lists are left out: they contain choices or answers."""
    if isinstance(doc, str):
        yield doc
    elif isinstance(doc, Mapping):
        for value in doc.values():
            yield from _texts_in(value)
