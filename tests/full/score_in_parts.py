"""Score a pool in this process, in parts of few prompts. Tests kill this process.

Run: python -m tests.full.score_in_parts EXPERIMENT.yaml [POINT]     (with $TASKDIV_HOME set; POINT as in `kill_at`)

The program prints "scoring" when the first batch starts, "scored" after the last batch, and at the end the number of prompts
that this run scored.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dagster as dg

from taskdiv_assets.language_model import batching
from taskdiv_assets.language_model.confidence import Scorer
from taskdiv_assets.services import scoring
from taskdiv_assets.storage import parts as stored_parts
from tests.full.kill_at import kill_at
from tests.graph import Graph, failure


def main() -> None:
    kill_at(*sys.argv[2:] or [""])
    stored_parts.PART_ROWS_N = 1
    batching.CPU_SHAPES = batching.Shapes(rows=64)  # some thirty batches instead of four
    asked: list[int] = []
    original = Scorer._score

    def telling(self: Scorer, group: Any) -> Any:
        if not asked:
            print("scoring", flush=True)
        asked.append(len(group.positions))
        return original(self, group)

    def until_scored(self: scoring.PromptScores, wanted: Any) -> None:
        score(self, wanted)
        if asked:
            print("scored", flush=True)

    score = scoring.PromptScores.score
    scoring.PromptScores.score = until_scored  # tells in passing
    Scorer._score = telling  # counts in passing
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(Path(sys.argv[1]), instance)
        result = graph.run("pool", "confidence_table")
    if not result.success:
        sys.exit(failure(result))
    print(f"asked {sum(asked)}", flush=True)


if __name__ == "__main__":
    main()
