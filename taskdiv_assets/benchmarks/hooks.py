"""Functions that lm-eval calls by name from a task's YAML file: the reader of rows, and the metric of the benchmark `lab`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Rows(list[dict[str, Any]]):
    """Rows with `features`, the only attribute of `datasets.Dataset` that lm-eval reads besides indexing.

    `load_dataset("json", …)` is slower: it writes an Arrow copy and decodes every row on each pass. For the 24 tasks of `lab`,
    `load_dataset` takes 0.2 s to load and 0.1 s for each adapter.
    """

    @property
    def features(self) -> dict[str, None]:
        return dict.fromkeys(self[0])


def read_rows(*, file: str, **_metadata: object) -> dict[str, Rows]:
    """Return the rows of one task by split, read from a JSON file. lm-eval calls this function as `custom_dataset`."""
    splits = json.loads(Path(file).read_text(encoding="utf-8"))
    return {split: Rows(rows) for split, rows in splits.items()}


def exact_match(_doc: Mapping[str, str], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Return the metric `exact_match`: 1 if every token of the answer, and the end token, is the most likely one, else 0."""
    ((_log_likelihood, is_greedy),) = results
    return {"exact_match": float(is_greedy)}
