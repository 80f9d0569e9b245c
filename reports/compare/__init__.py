"""Compares systems by anybody's item scores (of lm-eval, of inspect_ai, or tables), with the report's statistics."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Compared", "compare"]


class Compared(NamedTuple):
    """The path of the page, and the lines for the terminal."""

    page: str
    lines: list[str]


def compare(arguments: Sequence[str], out_dir: str, *, metric: str = "", reference: str = "") -> Compared:
    """Read systems, compare them, and write index.html, results.csv, results.parquet and the figures to the folder `out_dir`.

    Nothing is written if a file is not valid, or if a file would be replaced that is read or that no comparison wrote.
    Each file is written atomically, the page last.

    Args:
        arguments: PATH or NAME=PATH of each system (see `score_sources.read_all`).
        out_dir: Folder for the page and the tables. It is created if it is missing.
        metric: The metric to compare; empty for the default of `common_items.join`.
        reference: Name of the system that the others are compared with; empty for the first.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: the files are not valid or cannot be compared, or the folder has other files with the names of the outputs.
    """
    from reports import Rendered, writing
    from reports.compare import (
        common_items,
        compare_numbers,
        compare_page,
        compare_sentences,
        output_folder,
        score_sources,
        versus,
    )

    output_folder.check(out_dir, score_sources.paths(arguments))
    found = versus.versus(common_items.join(score_sources.read_all(arguments), metric, reference))
    claims = [claim._asdict() for claim in compare_sentences.claims(found)]
    table = compare_numbers.results_table(found)
    page = compare_page.render(found, table)
    rendered = Rendered(page.html, table, claims, [], None, page.pictures)
    return Compared(writing.write(rendered, out_dir), compare_sentences.lines(found))
