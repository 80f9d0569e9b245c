"""The row of one experiment: what its stored report says on the primary comparison, and on labels, cost and date.

Everything comes from the experiment file and from the report's `results.parquet`. The page itself is not read.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.cell_keys import FULL_POOL_STRATEGY
from data_contracts.footer import Footer
from data_contracts.stored import Folder, open_folder
from data_contracts.table_paths import REPORT_TABLE, table_parts
from reports import words
from reports.earlier.stored_reports import Figure, Figures, figures
from reports.experiment_view import Experiment, read_experiment
from reports.provenance import question

UP_TO_DATE, OUT_OF_DATE, NO_REPORT, BROKEN, NOT_FOUND = STATES = (
    "up to date", "out of date", "no report", "broken", "not found",
)  # fmt: skip
QUESTION_N, ANSWER_N, PROBLEM_N = 300, 600, 500  # characters


class Summary(NamedTuple):
    """The row of one experiment. Without a report or a primary comparison, the fields on them are empty."""

    name: str
    state: str = NO_REPORT  # one of STATES
    identity: str = ""  # of the stored report; empty if there is none
    question: str = ""
    made_at: datetime | None = None  # UTC
    answer: str = ""  # the first claim of a report without a primary comparison
    primary: Figure | None = None  # its estimate is strategy minus reference
    savings: Figure | None = None  # labels of the primary strategy that match the reference at its largest budget
    reference_labels_n: int | None = None  # the largest budget of the primary comparison's reference
    largest_n: int | None = None  # the largest budget of the experiment
    price: float | None = None  # of one label
    currency: str = ""
    problems: tuple[str, ...] = ()  # sentences


def read_summary(name: str, results_dir: str) -> Summary:
    """Return the row of an experiment without its problems. The state is "up to date" or "no report".

    Whether the report is out of date, only a caller that knows the graph of all tables can find.

    Raises:
        FileNotFoundError: experiment.yaml does not exist.
        ValueError: experiment.yaml is not valid, or the stored report cannot be read.
    """
    files = open_folder(results_dir)
    experiment, text = read_experiment(files, results_dir)
    asked, _ = question(text)
    found = Summary(
        name,
        question=words.clean(asked, QUESTION_N),
        largest_n=max(experiment.budgets, default=None),
        price=experiment.annotation.price,
        currency=words.clean(experiment.annotation.currency or "", 20),
    )
    stored = _report(files)
    return found if stored is None else _with_report(found, experiment, *stored)


def _report(files: Folder) -> tuple[Footer, Figures] | None:
    path = files.join(*table_parts(REPORT_TABLE))
    try:
        with files.fs.open(path, "rb") as handle:
            table = pq.read_table(handle, partitioning=None)
        return Footer.from_metadata(table.schema.metadata) or Footer(REPORT_TABLE), figures(table)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}); remove it, and the next run makes it again"
        ) from error


def _with_report(found: Summary, experiment: Experiment, footer: Footer, rows: Figures) -> Summary:
    primary = next((one for one in rows.values() if one.quantity == "area" and not one.family), None)
    with_report = found._replace(
        state=UP_TO_DATE,
        identity=footer.identity,
        made_at=_time(footer.finished_at),
        answer=first_claim(footer.notes),
        primary=primary,
    )
    if primary is None:
        return with_report
    where = (primary.benchmark, primary.metric)
    savings = rows.get(("labels_to_match", *where, primary.strategy, primary.reference, 0))
    full_n = footer.notes.get("full_pool_n") if primary.reference == FULL_POOL_STRATEGY else None
    budgets = [
        one.budget_n
        for one in rows.values()
        if (one.quantity, one.benchmark, one.metric, one.strategy) == ("mean", *where, primary.reference)
        and (one.budget_n != full_n or one.budget_n in experiment.budgets)
    ]
    return with_report._replace(savings=savings, reference_labels_n=max(budgets, default=None))


def first_claim(notes: Mapping[str, Any]) -> str:
    """Return the text of a report's first claim, from the notes of its footer; empty if there is none."""
    claims = notes.get("claims")
    first = claims[0] if isinstance(claims, list) and claims else None
    return words.clean(first.get("text", ""), ANSWER_N) if isinstance(first, Mapping) else ""


def _time(text: str) -> datetime | None:
    try:
        made_at = datetime.fromisoformat(text)
        return None if made_at.tzinfo is None else made_at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
