"""`taskdiv report A B … --together`: one page with a row for each named experiment, from the stored reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from reports.together import index_page
from reports.together.summary import BROKEN, NOT_FOUND, Summary
from taskdiv_assets.assets.experiments_index import FOLDER, summary_of
from taskdiv_assets.commands.consoles import note
from taskdiv_assets.commands.opening import open_experiment
from taskdiv_assets.commands.output_errors import writing_output
from taskdiv_assets.storage.files import Files
from taskdiv_assets.storage.store import home

OWN = "together"  # folder beside `report`, where the page of Dagster's asset is


def write(sources: Sequence[str], output: str, other_options: Sequence[str] = ()) -> str:
    """Write the page into the folder `output`, by default into the home, and return its path.

    A note is printed for each experiment that cannot be used. Its row says the same. Raise ValueError if the command also has
    options of a single report.
    """
    if other_options:
        raise ValueError(f"--together takes no {' and no '.join(other_options)}: it shows the stored reports")
    url = home()
    summaries = list({one.name: one for one in summaries_of(sources, url)}.values())
    note(*(f"note: {one.name}: {one.problems[0]}" for one in summaries if one.state in (BROKEN, NOT_FOUND)))
    files = Files(output_folder(output) if output else f"{url}/{FOLDER}/{OWN}")
    page = index_page.render(summaries, address_of_home(url, files) if output else "../..")
    with writing_output(output):
        files.put(page.encode(), "index.html")
    return files.locate("index.html")


def only_one(sources: Sequence[str]) -> str:
    """Return the only name of an experiment. Raise ValueError if there are several."""
    if len(sources) > len(set(sources)):
        raise ValueError("name each experiment once")
    if len(sources) > 1:
        raise ValueError("several experiments need --together; without it, name one")
    return sources[0]


def summaries_of(sources: Sequence[str], url: str) -> Iterator[Summary]:
    for source in sources:
        try:
            experiment = open_experiment(source, is_kept=False, with_notes=False)
        except Exception as error:  # the page shows it
            yield summary_of("/".join(source.split("/")[-2:]), error, url)  # of a path, only the end
        else:
            yield summary_of(experiment.name, experiment, url)


def output_folder(output: str) -> str:
    return output.rstrip("/") if "://" in output else str(Path(output).expanduser().resolve())


def address_of_home(url: str, page: Files) -> str:
    """Return the address of a home, relative to the page's folder if both are on one local disk; else the absolute address."""
    if "://" in url:
        return quote(url, safe=":/")
    try:
        relative = os.path.relpath(url, page.path()) if page.is_local else None
    except ValueError:  # another drive on Windows
        relative = None
    return Path(url).as_uri() if relative is None else quote(Path(relative).as_posix())
