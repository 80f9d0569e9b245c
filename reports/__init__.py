"""The report: one HTML file, with numbers computed from stored tables.

The package does not depend on Dagster or torch. Importing `reports` imports no large library.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

    from reports.svg import Picture

__all__ = ["Rendered", "build", "render"]


class Rendered(NamedTuple):
    """A rendered report that is not yet written to files."""

    html: str
    table: "pa.Table"  # the results table (see `numbers`); its contract is strategy_report
    claims: list[dict[str, str]]  # main results: topic, text, verdict
    first: list[str]  # benchmark and metric of the first section; empty if nothing is scored
    full_pool_n: int | None  # labels of the full pool; None if it has no cell
    pictures: "tuple[Picture, ...]" = ()  # the figures of the page


def render(results_dir: str, excluded: Mapping[str, str] | None = None, reference: str = "") -> Rendered:
    """Render the report of the experiment in `results_dir` (any fsspec path) without writing a file.

    Args:
        results_dir: Folder with experiment.yaml and the stored tables.
        excluded: Stored tables to leave out, each with the reason. A key is `asset` or `asset/key`. The page shows the reasons.
        reference: Strategy with which the others are compared. If it is empty or has no scores, `analysis` chooses another.

    Raises:
        FileNotFoundError: experiment.yaml does not exist.
        ValueError: experiment.yaml is not valid, or `reference` is not a strategy of the experiment.
    """
    from reports import analysis, numbers, page, results, sentences
    from reports.earlier import changes

    found = results.load(results_dir, excluded)
    if reference and reference not in found.experiment.strategies:
        raise ValueError(
            f"{reference!r} is no strategy of {found.experiment.name}; expected one of {', '.join(found.experiment.strategies)}"
        )
    found = found._replace(experiment=found.experiment.model_copy(update={"reference": reference}))
    sections = analysis.sections(found)
    table = numbers.results_table(found, sections)
    found = found._replace(changes=None if reference else changes.changes_since(results_dir, found, table))
    claims = [claim._asdict() for claim in sentences.answer(found, sections)]
    first = [sections[0].scores.benchmark, sections[0].scores.metric] if sections else []
    full_pool_n = sections[0].full_pool_n if sections else None
    made = page.render(found, sections, table)
    return Rendered(made.html, table, claims, first, full_pool_n, made.pictures)


def build(
    results_dir: str,
    out_dir: str | None = None,
    footer: Mapping[str, object] | None = None,
    excluded: Mapping[str, str] | None = None,
    reference: str = "",
) -> str:
    """Render the report, write its files, and return the path of index.html, which is written last.

    The other files are results.parquet and results.csv; the figures' own files are not written. All files are written to the
    folder `out_dir` (default: `<results_dir>/report`). If given, `footer` is stored in the metadata of results.parquet under the
    key `taskdiv`. `render` describes the other arguments.
    """
    from reports import writing

    rendered = render(str(results_dir), excluded, reference)._replace(pictures=())
    return writing.write(rendered, str(out_dir or f"{str(results_dir).rstrip('/')}/report"), footer)
