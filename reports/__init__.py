"""The report: one HTML file made from stored tables alone.

Imports `data_contracts`, but neither Dagster nor torch, and nothing heavy until it is called.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Rendered", "build", "render"]


class Rendered(NamedTuple):
    """A report that is rendered but not written."""

    html: str
    table: "pa.Table"  # every number of it, as the strategy_report contract describes them
    claims: list[dict[str, str]]  # the answer: topic, text, verdict
    first: list[str]  # benchmark and metric that it begins with; empty where nothing is scored
    full_pool_n: int | None  # labels of the full pool, where it has a cell


def render(results_dir: str, excluded: Mapping[str, str] | None = None, reference: str = "") -> Rendered:
    """Render the report of the experiment in `results_dir`, without writing.

    Args:
        results_dir: any fsspec path.
        excluded: stored tables (`asset` or `asset/key`) to leave out, each with the reason that the page gives.
        reference: the strategy that the others are compared with; empty for the primary comparison's.

    Raises:
        FileNotFoundError: experiment.yaml is absent.
        ValueError: experiment.yaml is broken, or `reference` is not a strategy. The page itself states everything else that is
            missing.
    """
    from reports import analysis, numbers, page, results, sentences

    found = results.load(results_dir, excluded)
    if reference and reference not in found.experiment.strategies:
        raise ValueError(
            f"{reference!r} is no strategy of {found.experiment.name}; expected one of {', '.join(found.experiment.strategies)}"
        )
    found = found._replace(experiment=found.experiment.model_copy(update={"reference": reference}))
    sections = analysis.sections(found)
    claims = [claim._asdict() for claim in sentences.answer(found, sections)]
    first = [sections[0].scores.benchmark, sections[0].scores.metric] if sections else []
    full_pool_n = sections[0].full_pool_n if sections else None
    return Rendered(page.render(found, sections), numbers.results_table(found, sections), claims, first, full_pool_n)


def build(
    results_dir: str,
    out_dir: str | None = None,
    footer: Mapping[str, object] | None = None,
    excluded: Mapping[str, str] | None = None,
    reference: str = "",
) -> str:
    """Write index.html, results.parquet and results.csv, each in one operation, the page last.

    Args:
        results_dir: as for `render`.
        out_dir: default `<results_dir>/report`.
        footer: stored in the Parquet schema under the key `taskdiv`.
        excluded: as for `render`.
        reference: as for `render`.

    Returns:
        The path of index.html.
    """
    from reports import writing

    return writing.write(
        render(str(results_dir), excluded, reference),
        str(out_dir) if out_dir else f"{str(results_dir).rstrip('/')}/report",
        footer,
    )
