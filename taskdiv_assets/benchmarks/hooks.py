"""The functions that lm-eval calls by name from a task's YAML: the source of rows, and the lab's metric."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Rows(list[dict[str, Any]]):
    """Rows with the one attribute of `datasets.Dataset` that lm-eval reads besides indexing.

    `load_dataset("json", …)` gives the same rows, but writes an Arrow copy into a cache folder first (9 ms a task) and
    decodes every row on each of lm-eval's passes: over the lab's 24 tasks, 0.2 s to load and 0.1 s an adapter.
    """

    @property
    def features(self) -> dict[str, None]:
        """Return the names of the columns; nothing reads their types."""
        return dict.fromkeys(self[0])


def read_rows(*, file: str, **_metadata: object) -> dict[str, Rows]:
    """Return the rows of one task by split, from a JSON file, as lm-eval's `custom_dataset`."""
    splits = json.loads(Path(file).read_text(encoding="utf-8"))
    return {split: Rows(rows) for split, rows in splits.items()}


def exact_match(_doc: Mapping[str, str], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Return 1 if every token of answer and end is the most likely one, else 0: the score of greedy generation."""
    ((_log_likelihood, is_greedy),) = results
    return {"exact_match": float(is_greedy)}
