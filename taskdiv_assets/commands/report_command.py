"""`taskdiv report`: make the report of an experiment again, or one page of several experiments."""

from __future__ import annotations

from typing import Annotated

import typer

import reports
from reports import writing
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import page_pdf, together_page
from taskdiv_assets.commands.consoles import fail, note, plain_errors, quietly, say
from taskdiv_assets.commands.opening import EXPERIMENTS, open_experiment
from taskdiv_assets.commands.output_errors import check_output, writing_output
from taskdiv_assets.commands.workers import Task, execute
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.orchestration import instance
from taskdiv_assets.storage.store import Store, home


def report(
    experiments: EXPERIMENTS,
    reference: Annotated[str, typer.Option(metavar="S", help="Compare with this strategy; needs --output.")] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="Write to this folder; record nothing in Dagster.")
    ] = "",
    file_format: Annotated[
        str,
        typer.Option(
            "--format", metavar="html|pdf", help="pdf: also print the page, into FOLDER or the current folder."
        ),
    ] = "html",
    together: Annotated[
        bool, typer.Option("--together", help="One page with a row for each EXPERIMENT, from the stored reports.")
    ] = False,
) -> None:
    """Rebuild the report from the stored results if it is out of date, and print its path. With --output, always build it.

    The page says what changed since the last report. The newest 20 earlier reports are kept in its folder `earlier`, by date.

    Example: taskdiv report demo mine --together
    """
    with plain_errors():
        check_output(output)
        if together:
            others = [*(["--reference"] if reference else []), *(["--format"] if file_format != "html" else [])]
            say(f"page: {together_page.write(experiments, output, others)}")
            return
        experiment = together_page.only_one(experiments)
        chosen = open_experiment(experiment)
        store = Store(chosen.name)
        if store.read_footer("raw_pool") is None:
            raise ValueError(f"nothing is stored for {chosen.name} in {home()}; start with `taskdiv run {experiment}`")
        if reference and not output:
            raise ValueError("--reference needs --output: the stored report has the reference of the experiment file")
        browser = page_pdf.browser_for(file_format)
        if output:
            say(f"report: {_write(chosen, store, output, reference)}")
        else:
            quietly()
            with instance.open_instance():
                outcome = execute(chosen.name, Task("report", ("strategy_report",), None))
            if not outcome.is_success:
                fail(outcome.message, code=1)
            say_where(chosen)
        if browser:
            with writing_output(output):
                path = page_pdf.write(output or store.locate("report"), browser, chosen.name, output)
            say(f"pdf: {path}")


def _write(experiment: Experiment, store: Store, output: str, reference: str) -> str:
    """Write the report and its figures into the folder `output`, and return the path of the page."""
    rendered = reports.render(store.url, REGISTRY.look(experiment, store).stale_units(), reference)
    with writing_output(output):
        return writing.write(rendered, output)


def say_where(experiment: Experiment, until: str | None = None) -> None:
    """Print the path of the report, or that there is none yet. If `until` names another asset, print the path of its tables."""
    store = Store(experiment.name)
    if until is not None and until != "strategy_report":
        name = f"{until}.parquet" if REGISTRY[until].partitioned_by == "none" else until
        say(f"tables: {store.locate('tables', name)}")
    elif store.get("report", "index.html") is None:
        note("no report yet: nothing has been scored")
    else:
        say(f"report: {store.locate('report', 'index.html')}")
