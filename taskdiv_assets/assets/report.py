"""The last asset: one HTML page that compares the strategies, made from the stored tables alone."""

from __future__ import annotations

import io

import pyarrow.csv as pa_csv

import reports
from taskdiv_assets.assets.stage import Product, Stage, Work


def make_strategy_report(work: Work) -> Product:
    """Make the page and the tables behind it; stored results that are out of date are left out and named."""
    excluded = work.lineage.stale_units()
    for name, reason in excluded.items():
        work.log(f"left out of the report: {name} ({reason})")
    rendered = reports.render(work.store.url, excluded)
    text = io.BytesIO()
    pa_csv.write_csv(rendered.table, text)
    files = {"report/results.csv": text.getvalue(), "report/index.html": rendered.html.encode()}
    return Product(rendered.table, {"left_out_n": len(excluded)}, files=files)


STAGES = (
    Stage(
        "strategy_report",
        make_strategy_report,
        deps=(
            "raw_pool",
            "task_confidence",
            "confidence_comparison",
            "confidence_accuracy",
            "base_scores",
            "benchmark_scores",
        ),
        description="The comparison: one HTML page, and the tables behind it as Parquet and CSV. "
        "It is made of whatever cells there are, and names the missing ones.",
        kinds=frozenset({"html", "python"}),
    ),
)
