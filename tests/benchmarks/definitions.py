"""The time to load the definitions, compared with importing Dagster alone."""

from __future__ import annotations

from tests.benchmarks import page
from tests.benchmarks.scale import Scale
from tests.benchmarks.timing import fresh_interpreter, paired

TITLE = "Definitions"


def part(scale: Scale) -> page.Part:
    """Measure in new processes, because Dagster loads a code location in a new process."""
    ours, other = paired(
        lambda: fresh_interpreter("import taskdiv_assets.definitions"), lambda: fresh_interpreter("import dagster")
    )
    lines = [page.Line("load all definitions, fresh process", ours), page.Line("`import dagster` alone", other)]
    return page.Part(TITLE, page.comparison(lines))
