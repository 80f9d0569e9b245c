"""Seconds to read the state of many cells from an object store with a delay of 20 ms: `python -m tests.evidence.many_cells`."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.planning import plan
from taskdiv_assets.commands.running import missing_units
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.storage.store import Store
from tests.many_cells import experiment, make
from tests.s3 import BUCKET, moto, proxied

DELAY_S = 0.02


def main() -> None:
    """Print the seconds and requests of the first reads of `taskdiv plan`, `taskdiv run` and the report."""
    budgets_n, strategies_n = (
        int(os.environ.get(name, default)) for name, default in (("BUDGETS", 50), ("STRATEGIES", 13))
    )
    assert strategies_n > 1
    wanted = experiment(budgets_n, strategies_n)
    url = f"s3://{BUCKET}/prefix"
    with tempfile.TemporaryDirectory() as folder, moto(Path(folder) / "log") as endpoint, proxied(endpoint) as proxy:
        make(wanted, url)
        proxy.delay_s = DELAY_S
        store = Store(wanted.name, url)
        for name, look in (
            ("taskdiv plan", lambda: plan(wanted, store)),
            ("what is missing", lambda: missing_units(wanted, store, None, Filter())),
            ("the report's inputs", lambda: REGISTRY.look(wanted, store).stale_units()),
        ):
            proxy.requests.clear()
            started = time.monotonic()
            found = look()
            took_s, methods = time.monotonic() - started, Counter(request.method for request in proxy.requests)
            print(f"{budgets_n * strategies_n} cells, {name}: {took_s:.1f} s, {dict(methods)}")
            if name != "taskdiv plan":
                assert [str(unit) for unit in found] in ([], ["strategy_report"]), list(found)[:3]


if __name__ == "__main__":
    main()
