"""What the UI shows of a stored table: rows, picture, paths, and links to what belongs to it."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.assets.cards import MODEL_CARD, data_card_path
from taskdiv_assets.assets.stage import Stage
from taskdiv_assets.store import Footer, Store
from taskdiv_assets.units import BY_CELL, Unit

PREVIEW_ROWS_N = 8
LINKS_MAX = 200


def describe(store: Store, stage: Stage, unit: Unit, table: pa.Table, footer: Footer) -> dict[str, Any]:
    """Metadata of one materialisation.

    Args:
        store: where the table lies.
        stage: what made it.
        unit: the asset and its partition.
        table: what was stored, or found.
        footer: what it says of itself.
    """
    metadata: dict[str, Any] = {"dagster/row_count": table.num_rows}
    if stage.name == "strategy_report":
        metadata["report"] = dg.MetadataValue.path(store.locate("report", "index.html"))
    try:
        metadata |= _decoration(stage, table, footer)
    except Exception as error:  # a table is not lost, nor its step failed, for a picture that cannot be drawn
        metadata["no picture"] = f"{type(error).__name__}: {error}"
    metadata["preview"] = dg.MetadataValue.md(rows_as_markdown(table))
    if stage.name == "strategy_report":
        metadata["cells"] = dg.MetadataValue.md(links_to_cells(store.experiment, table))
    if stage.name in BY_CELL:
        metadata["of this cell"] = dg.MetadataValue.md(links_of_cell(store.experiment, stage.name, str(unit.key)))
    for name, value in footer.notes.items():
        if isinstance(value, str | int | float):
            metadata[name] = value
    if stage.name == "allocation":
        metadata["data card"] = dg.MetadataValue.path(store.locate(*data_card_path(store, str(unit.key)).split("/")))
    if stage.name == "adapter":
        cards = [store.locate("folders", folder, MODEL_CARD) for folder in table["folder"].unique().to_pylist()]
        metadata["model cards"] = dg.MetadataValue.json(cards)
    metadata["path"] = dg.MetadataValue.path(store.locate(*store.table_parts(*unit)))
    metadata["seconds"] = footer.wall_s
    if footer.run_id is not None:
        metadata["made by run"] = dg.MetadataValue.dagster_run(footer.run_id)
    return metadata


def _decoration(stage: Stage, table: pa.Table, footer: Footer) -> dict[str, Any]:
    """Summary and picture, where a stage has them."""
    found: dict[str, Any] = {}
    if stage.summary is not None:
        found["summary"] = dg.MetadataValue.md(stage.summary(footer.notes))
    picture = stage.picture(table, footer.notes) if stage.picture is not None and table.num_rows else b""
    if picture:
        encoded = base64.b64encode(picture).decode()
        found["picture"] = dg.MetadataValue.md(f"![{stage.name}](data:image/png;base64,{encoded})")
    return found


def links_of_cell(experiment: str, asset: str, key: str) -> str:
    """Markdown links to the other results of a cell, and to the report."""
    others = [f"[{name}]({address(experiment, name, key)})" for name in BY_CELL if name != asset]
    return " · ".join([*others, f"[report]({address(experiment, 'strategy_report')})"])


def links_to_cells(experiment: str, table: pa.Table) -> str:
    """Markdown links to the scores of every cell that a report is made of, a line a budget."""
    means = table.filter(pc.and_(pc.equal(table["quantity"], "mean"), pc.greater(table["budget_n"], 0)))
    cells = sorted({(row["budget_n"], row["strategy"]) for row in means.select(["budget_n", "strategy"]).to_pylist()})
    if not cells:
        return "no cell is scored yet"
    lines: dict[int, list[str]] = {}
    for budget_n, strategy in cells[:LINKS_MAX]:
        link = f"[{strategy}]({address(experiment, 'benchmark_scores', f'{budget_n}|{strategy}')})"
        lines.setdefault(budget_n, []).append(link)
    text = "\n".join(f"- **{budget_n:,}**: {' · '.join(links)}" for budget_n, links in lines.items())
    left_out = len(cells) - LINKS_MAX
    return f"{text}\n- and {left_out:,} more" if left_out > 0 else text


def address(experiment: str, asset: str, key: str | None = None) -> str:
    """Where the UI shows an asset, or one partition of it.

    >>> address("demo", "adapter", "128|random")
    '/assets/demo/adapter?view=partitions&partition=128%7Crandom'
    """
    place = f"/assets/{experiment}/{asset}"
    return place if key is None else f"{place}?view=partitions&partition={quote(key, safe='')}"


def rows_as_markdown(table: pa.Table) -> str:
    """The first rows as a Markdown table, cells cut and escaped."""
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
