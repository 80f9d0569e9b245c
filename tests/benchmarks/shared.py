"""Real data, found as in the tests. A part that needs missing data is left out."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

from tests.benchmarks.fresh import ROOT


def shared_data() -> Path | None:
    """Return $TASKDIV_SHARED/data, or shared/data next to the repository; None if the folder does not exist."""
    folder = Path(os.environ.get("TASKDIV_SHARED", ROOT.parent / "shared")) / "data"
    return folder if folder.is_dir() else None


def dolly_prompts(data: Path) -> list[str]:
    """Return Dolly's 15,011 prompts in file order: instruction and context, with a blank line between them."""
    return [prompt for prompt, _ in dolly_examples(data)]


def dolly_examples(data: Path) -> list[tuple[str, str]]:
    """Return the same prompts with their answers."""
    with gzip.open(data / "dolly" / "databricks-dolly-15k.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [("\n\n".join(filter(None, (row["instruction"], row["context"]))), row["response"]) for row in rows]
