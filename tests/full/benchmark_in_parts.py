"""Score the base model of an experiment in this process, and store every batch of answers at once. Tests kill this process.

Run: python -m tests.full.benchmark_in_parts EXPERIMENT.yaml [POINT]     (with $TASKDIV_HOME set; POINT as in `kill_at`)

The program prints "asking" before the first answers, "asked" after the last ones, and at the end the number of questions that
this run asked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from taskdiv_assets.benchmarks.answering import Answerer
from taskdiv_assets.language_model import batching
from taskdiv_assets.storage import parts as stored_parts
from tests.full.kill_at import kill_at
from tests.graph import Graph, failure


def main() -> None:
    kill_at(*sys.argv[2:] or [""])
    stored_parts.PART_S = 0.0
    batching.CPU_SHAPES = batching.Shapes(rows=8, tokens=2048)  # some hundred batches instead of thirty
    asked: list[int] = []
    run = Answerer.run

    def telling(self: Answerer, known: Any) -> Iterator[Any]:
        print("asking", flush=True)
        for some in run(self, known):
            asked.append(len(some))
            yield some
        print("asked", flush=True)

    Answerer.run = telling  # counts in passing
    with dg.DagsterInstance.ephemeral() as instance:
        result = Graph(Path(sys.argv[1]), instance).run("pool", "base_scores")
    if not result.success:
        sys.exit(failure(result))
    print(f"questions {sum(asked)}", flush=True)


if __name__ == "__main__":
    main()
