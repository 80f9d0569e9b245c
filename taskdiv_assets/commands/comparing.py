"""The command `taskdiv compare`, which compares systems by their item scores. It needs no experiment and no Dagster."""

from __future__ import annotations

from typing import Annotated

import typer

from taskdiv_assets.commands.consoles import plain_errors, say


def compare(
    systems: Annotated[list[str], typer.Argument(metavar="A B [C …]", help="PATH or NAME=PATH of each system.")],
    reference: Annotated[
        str, typer.Option(metavar="NAME", help="Compare the others with this system; default: the first.")
    ] = "",
    metric: Annotated[
        str,
        typer.Option(
            metavar="M",
            help="Metric of lm-eval, or scorer of inspect_ai; default: of each task, the first that all have.",
        ),
    ] = "",
    output: Annotated[
        str, typer.Option("--output", "--out", "-o", metavar="FOLDER", help="Write the page and its tables here.")
    ] = "comparison",
) -> None:
    """Compare two or more systems on the items that they share, and write a page with differences, intervals and verdicts.

    PATH is a folder (or one file) of samples that lm-eval wrote with --log_samples,
    a folder of JSON logs of inspect_ai (or one log), or a CSV of task, item, score, and optionally seed and system.
    Unequal items, prompts, few-shot examples and versions are found and said.

    Example: taskdiv compare base=out/base tuned=out/tuned --metric acc --out comparison
    """
    from reports.compare import compare as made_of

    with plain_errors():
        made = made_of(systems, output, metric=metric, reference=reference)
        say(*made.lines, f"page: {made.page}")
