"""The Dagster asset `experiments_index`: one page and one table over the reports of all experiments.

A user materialises it. Dagster then shows it as out of date (Unsynced) whenever one of the reports has a new version.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa

import data_contracts
from data_contracts.footer import Footer, Rejected
from reports.together import index_page
from reports.together import summary_sentences as sentences
from reports.together.summary import Summary
from taskdiv_assets.assets import experiments_index
from taskdiv_assets.assets.experiments_index import DESCRIPTION, FOLDER, NAME, REPORT
from taskdiv_assets.assets.strategy_report import escaped
from taskdiv_assets.graph import environment
from taskdiv_assets.orchestration import engines, report_links
from taskdiv_assets.orchestration.factory import column_schema
from taskdiv_assets.orchestration.produce import Events, check_results, retry_if_it_may_pass, sentence_of
from taskdiv_assets.storage.store import Store, home

KEY = dg.AssetKey([NAME])
GROUP = "across_experiments"
UP = "../.."  # from the folder of the page to the home


def build(experiments: Iterable[str]) -> dg.Definitions:
    """Return the definitions of the asset, which depends on the reports of the loaded `experiments`."""
    contract = data_contracts.load(NAME)
    link = f"**[Open the page]({report_links.index_address()})** (served by `taskdiv ui` and `make ui`)"

    @dg.asset(
        key=KEY,
        deps=[dg.AssetDep(dg.AssetKey([name, REPORT.asset])) for name in experiments],
        group_name=GROUP,
        description=f"{link}\n\n{DESCRIPTION}",
        kinds={"html", "python"},
        code_version=str(experiments_index.CODE_VERSION),
        retry_policy=engines.retry_policy(),
        metadata={"dagster/column_schema": column_schema(contract)},
        check_specs=[
            dg.AssetCheckSpec(rule.name, asset=KEY, description=rule.description, blocking=True)
            for rule in contract.rules
        ],
    )
    def materialise(context: dg.AssetExecutionContext) -> Events:
        try:
            yield from publish(context)
        except Exception as error:
            retry_if_it_may_pass(context, error)
            if isinstance(error, dg.Failure):
                raise
            raise dg.Failure(description=sentence_of(error), allow_retries=False) from error

    return dg.Definitions(assets=[materialise])


def publish(context: dg.AssetExecutionContext) -> Events:
    """Read all reports, check the table against its contract, store page and table, and yield the events.

    Raises:
        dagster.Failure: the table breaks its contract. The stored page and table are kept.
    """
    started, store = _now(), Store(FOLDER)
    summaries = experiments_index.summaries_in(home())
    table = experiments_index.as_table(summaries)
    inputs = {f"{one.name}/{REPORT.asset}": one.identity for one in summaries if one.identity}
    identity = experiments_index.identity_of(table, inputs)
    result = data_contracts.validate(data_contracts.load(NAME), table)
    if not result.is_valid:
        note = Rejected(NAME, None, identity, context.run_id, rejected_at=_now(), rules=result.failed)
        path = store.write_rejected(note)
        yield from check_results(result.rules, [REPORT.asset])
        broken = "; ".join(f"{rule.rule} ({rule.observed})" for rule in result.failed if rule.severity == "error")
        raise dg.Failure(
            description=f"{NAME} breaks its contract: {broken}. Nothing stored was changed; details in {path}",
            allow_retries=False,
        )
    store.put(index_page.render(summaries, UP).encode(), "report", "index.html")
    footer = Footer(
        NAME,
        identity=identity,
        inputs=inputs,
        code_version=experiments_index.CODE_VERSION,
        run_id=context.run_id,
        started_at=started,
        finished_at=_now(),
        rules=result.rules,
        environment=environment.describe(),
    )
    path = store.write_table(table, footer)
    yield from check_results(result.rules, [REPORT.asset])
    yield dg.MaterializeResult(data_version=dg.DataVersion(identity), metadata=metadata(store, summaries, table, path))


def metadata(store: Store, summaries: Sequence[Summary], table: pa.Table, path: str) -> dict[str, Any]:
    return {
        "dagster/row_count": table.num_rows,
        "open the page": dg.MetadataValue.url(report_links.index_address()),
        "experiments": dg.MetadataValue.md(as_markdown(summaries)),
        "page": dg.MetadataValue.path(store.locate("report", "index.html")),
        "path": dg.MetadataValue.path(path),
    }


def as_markdown(summaries: Sequence[Summary]) -> str:
    """Return the rows as a Markdown table. The name of an experiment with a report is a link to it."""
    lines = [
        "| experiment | answer | labels saved | budget and price | report | problems |",
        "|---|---|---|---|---|---|",
    ]
    for one in summaries:
        name = escaped(one.name)
        cells = (
            f"[{name}]({report_links.address(one.name)})" if one.identity else name,
            escaped(sentences.answer(one)),
            escaped(sentences.savings(one)),
            escaped(sentences.cost(one)),
            ", ".join(filter(None, (sentences.date(one), one.state))),
            escaped("; ".join(one.problems)[:500]) or "none",
        )
        lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |")
    return "\n".join(lines)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
