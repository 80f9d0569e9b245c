"""The `taskdiv schema` command: what editors need to complete and check experiment files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taskdiv_assets.commands.consoles import out, plain_errors


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there, in place of what is there.")
    ] = None,
) -> None:
    """Print a JSON Schema of experiment files, by which editors complete and check them.

    A file points to it by its first line: # yaml-language-server: $schema=experiment.schema.json

    Example: taskdiv schema --output experiment.schema.json
    """
    from taskdiv_assets.experiment import experiment_schema

    with plain_errors():
        text = experiment_schema.as_json()
        if output is None:
            out.print(text, markup=False, highlight=False, end="")
            return
        output.write_text(text, encoding="utf-8")
        out.print(f"schema: {output}", markup=False)
