"""Execute steps of an experiment in this process, with an empty Dagster instance. Tests kill this process.

Run: python -m tests.full.one_step EXPERIMENT.yaml POINT JOB,ASSET,PARTITION…     (with $TASKDIV_HOME set)

POINT is as in `kill_at`, or empty.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg

from tests.full.kill_at import kill_at
from tests.graph import Graph, failure


def main() -> None:
    path, point, *steps = sys.argv[1:]
    kill_at(point)
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(Path(path), instance)
        budgets = [str(budget) for budget in graph.experiment.budgets]
        instance.add_dynamic_partitions(f"{graph.experiment.name}_budget", budgets)
        for job, asset, key in (step.split(",") for step in steps):
            result = graph.run(job, asset, key=key or None)
            if not result.success:
                sys.exit(failure(result))


if __name__ == "__main__":
    main()
