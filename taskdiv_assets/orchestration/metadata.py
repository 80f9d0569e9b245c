"""The metadata that the UI shows for a stored table, such as its first rows, a picture, paths, and links to related results."""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.cell_keys import cell_key
from data_contracts.footer import Footer
from data_contracts.table_paths import table_parts
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.cards.stored_cards import MODEL_CARD, data_card_path
from taskdiv_assets.graph.asset import Asset
from taskdiv_assets.graph.work import Work
from taskdiv_assets.orchestration import report_links
from taskdiv_assets.orchestration.asset_paths import place

PREVIEW_ROWS_N = 8
LINKS_MAX = 200


def describe(work: Work, asset: Asset, table: pa.Table, footer: Footer) -> dict[str, Any]:
    """Return the metadata of one materialisation of `table`, which was just computed or was found in the store."""
    store, unit = work.store, work.unit
    metadata: dict[str, Any] = {"dagster/row_count": table.num_rows}
    if asset.name == "strategy_report":
        metadata["open the report"] = dg.MetadataValue.url(report_links.address(store.experiment))
        metadata["answer"] = answer(footer.notes)
        metadata["report"] = dg.MetadataValue.path(store.locate("report", "index.html"))
    try:
        metadata |= _decoration(asset, table, footer)
    except Exception as error:  # a picture that cannot be drawn must not fail the step
        metadata["no picture"] = f"{type(error).__name__}: {error}"
    metadata["preview"] = dg.MetadataValue.md(rows_as_markdown(table))
    if asset.name == "strategy_report":
        full_pool_n = footer.notes.get("full_pool_n")
        metadata["cells"] = dg.MetadataValue.md(links_to_cells(store.experiment, table, full_pool_n))
    if asset.partitioned_by == "cell":
        metadata["of this cell"] = dg.MetadataValue.md(links_of_cell(work))
    metadata |= {name: value for name, value in footer.notes.items() if isinstance(value, str | int | float)}
    if asset.name == "allocation":
        metadata["data card"] = dg.MetadataValue.path(store.locate(*data_card_path(store, str(unit.key)).split("/")))
    if asset.name == "adapter":
        cards = [store.locate("folders", folder, MODEL_CARD) for folder in table["folder"].unique().to_pylist()]
        metadata["model cards"] = dg.MetadataValue.json(cards)
    metadata["path"] = dg.MetadataValue.path(store.locate(*table_parts(*unit)))
    metadata["seconds"] = footer.wall_s
    if footer.run_id is not None:
        metadata["made by run"] = dg.MetadataValue.dagster_run(footer.run_id)
    return metadata


def _decoration(asset: Asset, table: pa.Table, footer: Footer) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if asset.summary is not None:
        found["summary"] = dg.MetadataValue.md(asset.summary(footer.notes))
    picture = asset.picture(table, footer.notes) if asset.picture is not None and table.num_rows else b""
    if picture:
        encoded = base64.b64encode(picture).decode()
        found["picture"] = dg.MetadataValue.md(f"![{asset.name}](data:image/png;base64,{encoded})")
    return found


def answer(notes: Mapping[str, Any]) -> str:
    """Return the first claim of a report with its verdict, or "no claim yet". The UI shows this plain text without a click."""
    claims = notes.get("claims") or []
    return f"{claims[0]['text']} ({claims[0]['verdict']})" if claims else "no claim yet"


def links_of_cell(work: Work) -> str:
    experiment, is_full_pool = work.experiment, work.lineage.is_full_pool(work.cell)
    addresses = {
        name: address(experiment.name, name, work.unit.key, is_full_pool=is_full_pool)
        for name in REGISTRY.cell_assets(experiment)
        if name != work.unit.asset
    }
    addresses["report"] = address(experiment.name, "strategy_report")
    return " · ".join(f"[{name}]({link})" for name, link in addresses.items())


def links_to_cells(experiment: str, table: pa.Table, full_pool_n: int | None) -> str:
    """Return Markdown links to the scores of the cells in a report: one line per budget, and at most `LINKS_MAX` links.

    If no cell is scored yet, return a sentence that says so.
    """
    means = table.filter(pc.and_(pc.equal(table["quantity"], "mean"), pc.greater(table["budget_n"], 0)))
    cells = sorted({(row["budget_n"], row["strategy"]) for row in means.select(["budget_n", "strategy"]).to_pylist()})
    if not cells:
        return "no cell is scored yet"
    lines: dict[int, list[str]] = {}
    for budget_n, strategy in cells[:LINKS_MAX]:
        key, is_full_pool = cell_key(budget_n, strategy), budget_n == full_pool_n
        link = address(experiment, "benchmark_scores", key, is_full_pool=is_full_pool)
        lines.setdefault(budget_n, []).append(f"[{'full pool' if is_full_pool else strategy}]({link})")
    text = "\n".join(f"- **{budget_n:,}**: {' · '.join(links)}" for budget_n, links in lines.items())
    left_out = len(cells) - LINKS_MAX
    return f"{text}\n- and {left_out:,} more" if left_out > 0 else text


def address(experiment: str, asset: str, key: str | None = None, *, is_full_pool: bool = False) -> str:
    """Return the path of the page that the UI has for an asset, or for one partition of the asset.

    >>> address("demo", "adapter", "128|random")
    '/assets/demo/adapter?view=partitions&partition=128%7Crandom'
    >>> address("demo", "adapter", "4437|random", is_full_pool=True)
    '/assets/demo/full_pool_adapter'
    """
    path, partition = place(experiment, asset, key, is_full_pool=is_full_pool)
    page = f"/assets/{'/'.join(path)}"
    return page if partition is None else f"{page}?view=partitions&partition={quote(partition, safe='')}"


def rows_as_markdown(table: pa.Table) -> str:
    """Return the first `PREVIEW_ROWS_N` rows as a Markdown table. Values are cut after 80 characters and escaped."""
    names = table.column_names
    rows = table.slice(0, PREVIEW_ROWS_N).to_pylist()
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(text[:400].split())[:80].replace("\\", "\\\\")
    for mark in "|<>[]`*_$":
        text = text.replace(mark, f"\\{mark}")
    return text
