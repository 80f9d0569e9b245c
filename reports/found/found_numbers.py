"""What is stored about found tasks: the notes of task_labels, and the distances in the notes of allocations."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import FiniteFloat, ValidationError

from reports.experiment_view import View
from reports.reader import Reader
from reports.scores import ArmKey

LABELS = "task_labels"
NOTE = "found_tasks"  # in the notes of the table of labels
DISTANCE, RANDOM_DISTANCE = "distance_to_true_tasks", "random_distance_to_true_tasks"  # in the notes of an allocation
# Rules of the contract of the table of labels, which warn about found tasks.
STABLE = "found_tasks_are_stable"
RULES = ("found_tasks_have_prompts", "found_tasks_are_enough", "no_found_task_dominates", STABLE)


class Central(View):
    """A central prompt of a task."""

    prompt: str


class FoundTask(View):
    """One found task."""

    task: str
    prompts_n: int
    terms: tuple[str, ...] = ()
    central: tuple[Central, ...] = ()
    place: tuple[FiniteFloat, FiniteFloat] = (0.0, 0.0)  # on a map without unit


class Agreement(View):
    """Agreement with repetitions of the grouping: adjusted Rand indices, and a share of prompts."""

    between_seeds: FiniteFloat
    between_halves: FiniteFloat
    moved_share: FiniteFloat


class Moved(View):
    """The share of a budget's labels that another seed of k-means would give to other tasks."""

    budget_n: int
    share: FiniteFloat


class WithTrue(View):
    """Agreement of the found tasks with the tasks of the source."""

    tasks_n: int
    prompts_n: int
    rand: FiniteFloat
    information: FiniteFloat
    purity: FiniteFloat


class Point(View):
    """The groups with one number of tasks. The agreements are adjusted Rand indices, the sizes prompts of a sample."""

    tasks_n: int  # looked for
    found_n: int
    between_seeds: FiniteFloat
    between_halves: FiniteFloat
    median_n: int
    smallest_n: int


class Curve(View):
    """Groups with fewer and with more tasks than the chosen number, and what decided this number."""

    bound: Literal["prompts", "budget", "most", "fewest", "given"]
    prompts_n: int
    measured_n: int  # prompts of the sample
    points: tuple[Point, ...]


class Note(View):
    """What task_labels says about its found tasks."""

    budget_n: int | None = None  # labels, by which the number of tasks was chosen; None if the experiment file sets it
    tasks_n: int  # tasks that were looked for
    view: str = "words"
    agreement: Agreement
    tasks: tuple[FoundTask, ...]  # the largest first
    joined_n: int = 0  # prompts that joined the nearest task after annotations were bought
    moved_labels: tuple[Moved, ...] | None = None  # None if this was not measured, for example by an earlier version
    curve: Curve | None = None  # None if this was not measured, for example by an earlier version
    with_true: WithTrue | None = None  # None if the source does not name the task of every prompt


class Distance(NamedTuple):
    """The distance of a list from an even spread over the true tasks, 0..1, and its expected value for random choice."""

    own: float
    random: float


class Found(NamedTuple):
    """All data of the section on found tasks."""

    note: Note
    broken: tuple[str, ...]  # names of the rules in `RULES` that failed
    is_stable: bool | None  # the result of the rule `STABLE`; None if the footer lacks it
    distances: Mapping[ArmKey, Distance]  # only lists with this note


def read_found(reader: Reader, strategies: Sequence[str], budgets: Sequence[int]) -> Found | None:
    """Return the data on found tasks; None if no tasks were found, or if the notes cannot be used."""
    table = reader.listing.tables.get((LABELS, None))
    raw = table.footer.notes.get(NOTE) if table else None
    if table is None or not raw:
        return None
    try:
        note = Note.model_validate(raw)
    except ValidationError:
        reader.problems.append(f"the notes on found tasks in {LABELS} are not those of this version; they are left out")
        return None
    if not note.tasks:
        return None
    results = {rule.rule: rule.passed for rule in table.footer.rules if rule.rule in RULES}
    broken = tuple(rule for rule in RULES if not results.get(rule, True))
    return Found(note, broken, results.get(STABLE), _distances(reader, strategies, budgets))


def _distances(reader: Reader, strategies: Sequence[str], budgets: Sequence[int]) -> dict[ArmKey, Distance]:
    found = {}
    for key, arm in reader.keys("allocation"):
        notes = reader.listing.tables["allocation", key].footer.notes
        own, random = notes.get(DISTANCE), notes.get(RANDOM_DISTANCE)
        if not isinstance(own, float) or not isinstance(random, float) or not math.isfinite(own + random):
            continue
        if arm[0] in strategies and arm[1] in budgets:
            found[arm] = Distance(own, random)
    return found
