"""The time to make the report from stored tables, compared with only reading these tables."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tests.benchmarks import page
from tests.benchmarks.scale import Scale
from tests.benchmarks.timing import fresh_interpreter_s
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_limits import LARGE

TITLE = "The report"
ABOUT = """\
Processor seconds of fresh processes, imports included, the medians of {turns}. "reading" loads the score columns of every table with
pyarrow. The largest has 13 strategies at 5 budgets with 5 seeds on 84 tasks: 6.7 million scores."""
READ = (
    "import glob, pyarrow.parquet as pq; "
    "[pq.read_table(p, columns=['training_seed', 'benchmark', 'task', 'item_id', 'metric', 'score'], partitioning=None) "
    "for p in glob.glob({folder!r} + '/tables/benchmark_scores/*/*.parquet')]"
)
TURNS = 3


def part(scale: Scale) -> page.Part:
    """Measure making a report and only reading its tables, on a study of the demo's size and on the largest study."""
    rows = []
    for name, recipe in {
        "the demo's size": Recipe(),
        **({"the largest": LARGE} if scale.has_largest_report else {}),
    }.items():
        with TemporaryDirectory() as folder:
            made = str(make_results(Path(folder), recipe))
            sides = (f"import reports; reports.build({made!r})", READ.format(folder=made))
            seconds = np.median([[fresh_interpreter_s(side) for side in sides] for _ in range(TURNS)], axis=0)
        rows.append([name, *(f"{one:.2f}" for one in seconds), f"{seconds[0] / seconds[1]:.1f}"])
    head = ["results", "report, s", "reading, s", "report / reading"]
    return page.Part(TITLE, f"{ABOUT.format(turns=TURNS)}\n\n{page.table(head, rows)}")
