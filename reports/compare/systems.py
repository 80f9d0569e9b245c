"""A system: the item scores of one model or setting, as one of the readers found them.

The readers are `lm_eval_samples`, `inspect_logs` and `score_tables`. They check the form of files. `common_items` joins systems.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reports import words

ROWS_MAX_N = 2_000_000  # scores of one system; the readers keep them in memory
NAME_LENGTH = 300  # characters of the name of a task, item or metric
SCORE = "score"  # metric of a table of scores, which names none
Item = tuple[str, str]  # task, item


class Hashes(NamedTuple):
    """Hashes of what an item consists of. Empty if the file does not tell."""

    question: str = ""
    prompt: str = ""
    target: str = ""


@dataclass
class Task:
    """What a reader knows about one task of a system, beside the scores."""

    settings: dict[str, str] = field(
        default_factory=dict
    )  # by name, such as "number of few-shot examples"; unknown ones are missing
    lower_is_better: set[str] = field(default_factory=set)  # names of metrics, without filters
    higher_is_better: set[str] = field(default_factory=set)  # names of metrics, without filters
    model: str = ""


@dataclass
class System:
    """The scores of one system. `add` fills it; everything else is set by a reader."""

    name: str
    source: str  # the path, as the user wrote it
    form: str  # of the files, in words
    is_table: bool = False  # a table of scores: its only metric fits any metric, and equal seeds are pairs
    scores: dict[str, dict[tuple[str, str, int], float]] = field(
        default_factory=dict
    )  # metric → (task, item, run) → score
    hashes: dict[Item, Hashes] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)  # metric → why its values are no scores of items
    digests: set[str] = field(default_factory=set)  # SHA-256 of each file with scores
    notes: list[str] = field(default_factory=list)
    rows_n: int = 0

    def add(self, task: str, item: str, metric: str, run: int, score: float, where: str) -> None:
        """Add one score. `where` names file and line for the error.

        Raises:
            ValueError: the item has a score already, a name is empty or too long, or there are too many scores.
        """
        for what, name in (("task", task), ("item", item), ("metric", metric)):
            if not name or len(name) > NAME_LENGTH:
                raise ValueError(
                    f"{where}: the name of the {what} has {len(name):,} characters; expected 1 to {NAME_LENGTH}"
                )
        of_metric, key = self.scores.setdefault(metric, {}), (task, item, run)
        if key in of_metric:
            raise ValueError(
                f"{where}: item {item!r} of task {task!r} has a second score of {metric}. Scores of one item are not averaged: "
                "remove the repetition, or give each run of the system a number of its own (a seed, or an epoch)"
            )
        self.rows_n += 1
        if self.rows_n > ROWS_MAX_N:
            raise ValueError(f"{where}: {self.name} has more than {ROWS_MAX_N:,} scores, which is the limit")
        of_metric[key] = score
        self.tasks.setdefault(task, Task())

    def note_repeated(self, tasks: set[str]) -> None:
        """Add a note about tasks of which several files were found."""
        if tasks:
            listed = words.listing(sorted(tasks), most_n=4)
            self.notes.append(
                f"{self.name} was run several times on {listed}: only the latest file of each task is used."
            )

    @property
    def items(self) -> set[Item]:
        return {(task, item) for own in self.scores.values() for task, item, _ in own}

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(sorted({task.model for task in self.tasks.values()} - {""}))


def number(value: Any) -> float | None:
    """Return a JSON number or boolean as float, NaN if it is not finite; None for any other value."""
    if not isinstance(value, bool | int | float):
        return None
    return float(value) if abs(value) < 1e300 else float("nan")


def text(value: Any) -> str:
    """Return a string of bounded length from a JSON value; empty for None and containers."""
    return "" if value is None or isinstance(value, dict | list) else str(value)[:NAME_LENGTH]


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object as it is, and an empty one for any other value."""
    return value if isinstance(value, dict) else {}
