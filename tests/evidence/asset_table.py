"""Write the table of assets in README.md from the registry: `python -m tests.evidence.asset_table`."""

from __future__ import annotations

import re
from pathlib import Path

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.graph.asset import EVERYTHING, Asset

PAGE = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- assets -->", "<!-- /assets -->"


def table() -> str:
    """Return the assets as a Markdown table, in data-flow order."""
    lines = ["| asset | partitioned by | reads | what it is |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_line(REGISTRY[name]) for name in REGISTRY.order)])


def _line(asset: Asset) -> str:
    reads = ", ".join(asset.reads) or "–"
    if asset.reads == EVERYTHING:
        reads = "all others"
    by = {"none": "–", "strategy": "strategy", "cell": "budget and strategy"}[asset.partitioned_by]
    first_sentence = re.match(r".*?[.](?=\s|$)|.*", asset.description, re.DOTALL)
    what = " ".join(first_sentence.group().split()).replace("|", "\\|") if first_sentence else ""
    return f"| `{asset.name}` | {by} | {reads} | {what} |"


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
