"""Asset `strategy_report`: an HTML page that compares the strategies, made from the store alone."""

import html
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import reports
from reports import writing
from reports.earlier import stored_reports
from taskdiv_assets.graph.asset import EVERYTHING, Asset, Needs, Settings
from taskdiv_assets.graph.cells import expected as expected_cells
from taskdiv_assets.graph.drawings import Band, bars, curves
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.lineage import sha256
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.storage.identity import digest
from taskdiv_assets.storage.store import Store


def make_strategy_report(work: Work) -> Product:
    """Make the page and its tables. Stored results that are not fresh are left out, and the page lists them."""
    excluded = work.lineage.stale_units()
    for name, reason in excluded.items():
        work.log(f"left out of the report: {name} ({reason})")
    rendered = reports.render(work.store.url, excluded)
    page = rendered.html.encode()
    new = {"report/results.csv": writing.as_csv(rendered.table), "report/index.html": page}
    files = {**present_report(work.store, page), **new}  # they are written in this order
    digests = {path: sha256(content) for path, content in new.items()}
    noted = {"files": digests, "claims": rendered.claims, "first": rendered.first, "full_pool_n": rendered.full_pool_n}
    return Product(rendered.table, {"left_out_n": len(excluded), **noted}, files=files)


def present_report(store: Store, new_page: bytes) -> dict[str, bytes]:
    """Return the files that keep the present report as an earlier one, by their paths in the store; its table is last.

    Nothing is kept if the new page is the same, or if the present report is kept already. A kill may have ended the last writing
    of a report after its page and before its table. The old report is then already kept, and must not be mixed with the new page.
    """
    page, table = store.get("report", stored_reports.PAGE), store.get("report", stored_reports.TABLE)
    if page is None or table is None or page == new_page:
        return {}
    name = stored_reports.name_in(table)
    folder = (*stored_reports.FOLDER, name)
    if not name or stored_reports.TABLE in store.names(*folder):
        return {}
    return {"/".join((*folder, stored_reports.PAGE)): page, "/".join((*folder, stored_reports.TABLE)): table}


def remove_oldest(work: Work) -> None:
    """Remove the oldest earlier reports, so that `KEPT_N` are left."""
    store = work.store
    names = [name for name in store.names(*stored_reports.FOLDER) if stored_reports.NAME.fullmatch(name)]
    for name in names[: -stored_reports.KEPT_N]:
        with suppress(FileNotFoundError):  # another process removes it at the same time
            store.fs.rm(store.path(*stored_reports.FOLDER, name), recursive=True)


def answer(notes: Mapping[str, Any]) -> str:
    """Return the claims of the report as a Markdown list."""
    claims = [{name: escaped(one[name]) for name in ("topic", "verdict", "text")} for one in notes["claims"]]
    return "\n".join("- **{topic}** ({verdict}): {text}".format(**claim) for claim in claims)


def escaped(text: str) -> str:
    """Return text with special characters of Markdown and HTML escaped."""
    return html.escape(re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", text), quote=False)


def main_picture(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Draw `main_curve`. If prompts were chosen but no tuned model has scores yet, draw `chosen_bars` instead."""
    is_mean = pc.and_(pc.equal(table["quantity"], "mean"), pc.not_equal(table["strategy"], "base"))
    chosen = table.filter(pc.equal(table["quantity"], "chosen")).to_pylist()
    return chosen_bars(chosen) if chosen and not pc.any(is_mean).as_py() else main_curve(table, notes)


def chosen_bars(rows: list[dict[str, Any]]) -> bytes:
    """Draw the number of chosen prompts of each task at the largest budget, one colour per strategy.

    If there are fewer than two tasks, draw the number of chosen prompts of each strategy.
    """
    budget_n = max(row["budget_n"] for row in rows)
    by_task = [row for row in rows if row["budget_n"] == budget_n and row["task"]]
    sizes = {row["task"]: row["items_n"] for row in by_task}
    title = f"prompts chosen at {budget_n:,} labels"
    if len(sizes) < 2:
        totals = {row["strategy"]: row["estimate"] for row in rows if row["budget_n"] == budget_n and not row["task"]}
        return bars(list(totals), {"prompts": list(totals.values())}, title)
    tasks = sorted(sizes, key=lambda task: (-sizes[task], task))
    counts = {(row["strategy"], row["task"]): row["estimate"] for row in by_task}
    strategies = list(dict.fromkeys(row["strategy"] for row in by_task))
    series = {strategy: [counts.get((strategy, task), 0.0) for task in tasks] for strategy in strategies}
    return bars(tasks, series, f"{title}, largest task first" + (", strategies in a row" if len(series) > 1 else ""))


def main_curve(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Draw the mean score on the report's first benchmark at each budget, one curve per strategy. Return b"" without means."""
    means = table.filter(pc.equal(table["quantity"], "mean")).to_pylist()
    if not means:
        return b""
    first = notes["first"]
    own = [row for row in means if [row["benchmark"], row["metric"]] == list(first)]
    names = {0: "base", notes["full_pool_n"]: "full pool"}  # budgets that are drawn as horizontal lines
    levels = {names[row["budget_n"]]: row["estimate"] for row in own if row["budget_n"] in names}
    series: dict[str, list[dict[str, Any]]] = {}
    for row in own:
        if row["budget_n"] not in names:
            series.setdefault(row["strategy"], []).append(row)
    bands = {name: _band(rows) for name, rows in series.items()}
    return curves(bands, levels, "labels", f"{first[0]}, {first[1]}")


def _band(rows: list[dict[str, Any]]) -> Band:
    columns = ([math.nan if row[name] is None else row[name] for row in rows] for name in ("estimate", "low", "high"))
    return Band([row["budget_n"] for row in rows], *columns)


def strategy_report_recipe(inputs: Inputs) -> Settings:
    """Add each stored result as an input: its identity if it is fresh, and otherwise its state, which the page lists."""
    experiment, lineage = inputs.experiment, inputs.lineage
    registry, store = lineage.registry, lineage.store
    for unit in lineage.look_ahead(registry.units(experiment, store, lineage.pool_size, inputs.reads)):
        footer = lineage.footer(unit)
        if footer is not None:
            state = lineage.state(unit).status
            inputs.add({str(unit): footer.identity if state == "fresh" else state})
    if (
        scores := lineage.variant_scores
    ):  # in one entry, because "since the last report" compares the experiment's own tables
        inputs.add({"variant_scores": f"digest {digest(sorted([name, *pair] for name, pair in scores.items()))}"})
    rejected = digest([[name, note.get("identity"), note.get("rules")] for name, note in store.rejections()])
    expected = [cell.key for cell in expected_cells(experiment, store, lineage.pool_size)]
    shown = experiment.model_dump(exclude={"owners", "fresh_days"})
    if shown["annotation"]["price_of_machine_hour"] is None:  # then the identity is the same as in earlier versions
        del shown["annotation"]["price_of_machine_hour"]
    settings: dict[str, object] = {"experiment": shown, "rejected": rejected, "cells": expected}
    exports = [name for name in store.names("exports") if name.endswith(".json")]
    if exports:  # without exports, the identity is the same as in earlier versions, which ignored exports
        settings["exports"] = digest(exports)
    return settings


ASSET = Asset(
    name="strategy_report",
    make=make_strategy_report,
    reads=EVERYTHING,
    recipe=strategy_report_recipe,
    code_version=5,  # of the page, too
    files=("report/results.csv", "report/index.html"),
    description="The comparison: one HTML page, and the tables behind it as Parquet and CSV. It is made from whatever is "
    "stored, and lists what is missing. Before there are scores it shows what was chosen, sent out and answered.",
    needs=Needs(1, 8, 0, "item-level scores of all cells, read once"),
    needs_answers=True,
    kinds=frozenset({"html", "python"}),
    picture=main_picture,
    summary=answer,
    afterwards=remove_oldest,
)
