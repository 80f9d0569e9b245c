"""The `taskdiv annotations` commands: to the annotators and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from taskdiv_assets.cells import Cell
from taskdiv_assets.cli_shared import EXPERIMENT, check_filters, fail, open_experiment, out, quietly, said_plainly
from taskdiv_assets.store import Store

annotations_app = typer.Typer(help="Send prompts to annotators, and bring answers back.", no_args_is_help=True)


@annotations_app.command("export")
def annotations_export(
    experiment: EXPERIMENT,
    budget: Annotated[str, typer.Option(metavar="N", help="The budget whose prompts go out.")],
    strategy: Annotated[str, typer.Option(metavar="S", help="The strategy that chose them.")],
    seed: Annotated[int | None, typer.Option(help="Selection seed; a study has one list per seed.")] = None,
    format: Annotated[str, typer.Option(help="jsonl or csv.")] = "jsonl",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; default: a name of its own.")
    ] = None,
) -> None:
    """Write the prompts of one cell that still need an answer and were not sent out before."""
    from taskdiv_assets import annotating

    with said_plainly():
        chosen = open_experiment(experiment)
        (budget_n,) = check_filters(chosen, [budget], [strategy])
        if format not in ("jsonl", "csv"):
            raise ValueError(f"unknown format {format!r}; expected jsonl or csv")
        path = output or Path(f"{chosen.name}-{strategy}-{budget_n}.{format}")
        if path.exists():
            raise ValueError(f"{path} is there already; move it away, or choose another name with --output")
        store = Store(chosen.name)

        def write(rows: list[dict[str, Any]]) -> None:
            temporary = path.with_name(f"{path.name}.part")
            temporary.write_bytes(annotating.render(rows, format))
            temporary.replace(path)

        result = annotating.export(chosen, store, Cell(budget_n, strategy), seed, write)
        price = chosen.annotation.price
        cost = "" if price is None else f", {len(result.rows) * price:,.2f} at {price} each"
        out.print(f"{len(result.rows)} prompts to annotate{cost}; {result.already_sent_n} were sent out before")
        if result.rows:
            out.print(f"file: {path}")


@annotations_app.command("import")
def annotations_import(
    experiment: EXPERIMENT,
    file: Annotated[Path, typer.Argument(help="Answers as .jsonl or .csv, with prompt_id and response.")],
    annotator: Annotated[str | None, typer.Option(help="Who answered, where the file does not say.")] = None,
) -> None:
    """Store annotators' answers: all of them, or none if a row cannot be used."""
    from taskdiv_assets import annotating, instance, workers

    with said_plainly():
        chosen = open_experiment(experiment)
        result = annotating.import_answers(chosen, Store(chosen.name), annotating.read_answers(file), annotator)
        said = f"imported {result.rows_n} answers" if result.is_new else f"{result.rows_n} answers were imported before"
        out.print(f"{said} (batch {result.batch[:12]})")
        if result.is_new:
            quietly()
            with instance.open_instance():
                outcome = workers.execute(chosen.name, workers.Task("pool", ("annotations",), None))
            if not outcome.is_success:
                fail(f"the answers are stored, but their table could not be made: {outcome.message}", code=1)
        out.print(f"next: taskdiv run {experiment}")
