"""Score a pool in this process, in parts of few prompts: something for a test to kill.

Run: python -m tests.full.score_in_parts EXPERIMENT.yaml     (with $TASKDIV_HOME set)

Prints "scoring" when the first batch starts, and in the end how many prompts this run asked the model about.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dagster as dg

from taskdiv_assets.assets import scoring
from taskdiv_assets.language_model.confidence import Scorer
from tests.graph import Graph, failure


def main() -> None:
    scoring.PART_PROMPTS_N = 32
    asked: list[int] = []
    original = Scorer._score

    def telling(self: Scorer, group: Any) -> Any:
        if not asked:
            print("scoring", flush=True)
        asked.append(len(group.positions))
        return original(self, group)

    Scorer._score = telling  # type: ignore[method-assign]  # counts in passing
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(Path(sys.argv[1]), instance)
        result = graph.run("pool", "confidence_table")
    if not result.success:
        sys.exit(failure(result))
    print(f"asked {sum(asked)}", flush=True)


if __name__ == "__main__":
    main()
