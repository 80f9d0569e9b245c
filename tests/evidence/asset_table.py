"""Write the table of assets in README.md from the registry: `python -m tests.evidence.asset_table`."""

from __future__ import annotations

import re
from pathlib import Path

from taskdiv_assets.assets import REGISTRY, experiments_index
from taskdiv_assets.assets.experiments_index import DESCRIPTION
from taskdiv_assets.graph.asset import EVERYTHING, Asset

PAGE = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- assets -->", "<!-- /assets -->"


def table() -> str:
    """Return the assets as a Markdown table, in data-flow order."""
    lines = ["| asset | partitioned by | reads | what it is |", "|---|---|---|---|"]
    last = f"| `{experiments_index.NAME}` | – | strategy_report of every experiment | {_first_sentence(DESCRIPTION)} |"
    return "\n".join([*lines, *(_line(REGISTRY[name]) for name in REGISTRY.order), last])


def _line(asset: Asset) -> str:
    reads = ", ".join(asset.reads) or "–"
    if asset.reads == EVERYTHING:
        reads = "all others"
    by = {"none": "–", "strategy": "strategy", "cell": "budget and strategy"}[asset.partitioned_by]
    return f"| `{asset.name}` | {by} | {reads} | {_first_sentence(asset.description)} |"


def _first_sentence(description: str) -> str:
    found = re.match(r".*?[.](?=\s|$)|.*", description, re.DOTALL)
    return " ".join(found.group().split()).replace("|", "\\|") if found else ""


def stored(page: str) -> str:
    """Return the table that a page has between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    if BEGIN not in page or END not in page:
        raise ValueError(f"{PAGE} lacks {BEGIN} or {END}; put both around the table of assets")
    return page.partition(BEGIN)[2].partition(END)[0].strip("\n")


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}" if stored(page) != table() else page, encoding="utf-8")


if __name__ == "__main__":
    main()
