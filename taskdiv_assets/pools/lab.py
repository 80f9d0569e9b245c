"""The lab: a generated pool of small text tasks, held-out items, and pretraining examples for the lab's base model.

All data are computed from a seed. For every seed, held-out inputs occur neither in the pool nor in a pretraining example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from taskdiv_assets.experiment.lab_operations import (
    ALL_KINDS,
    FITTING_KINDS,
    PRETRAINED_AS,
    TASKS,
    TRAPS,
    IntArray,
    Task,
    draw_codes,
    render,
)
from taskdiv_assets.selection.streams import generator

HELD_OUT_N = {"test": 40, "validation": 20}  # items per task
LEAST_PURITY = 0.05
EXPOSURE_RATIO = 4.0


class LabItem(NamedTuple):
    """One prompt with its correct answer, such as ("reverse-test-3", "reverse", "spell backwards: abcd>", "dcba")."""

    item_id: str
    task: str
    prompt: str
    response: str


class PretrainingExample(NamedTuple):
    """A pretraining text: the prompt, which ends in ">", and the answer. The loss is computed on the answer alone."""

    prompt: str
    response: str


def _chosen_tasks(names: Sequence[str] | None) -> tuple[Task, ...]:
    names = list(TASKS) if names is None else names
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names or len(set(names)) < len(names):
        problem = f"unknown lab task {', '.join(unknown)}" if unknown else "lab tasks: expected at least one, each once"
        raise ValueError(f"{problem}; choose from {', '.join(TASKS)}")
    return tuple(task for task in TASKS.values() if task.name in names)


def task_sizes(
    seed: int, tasks: Sequence[str] | None = None, largest_n: int = 600, smallest_n: int = 24
) -> dict[str, int]:
    """Return the number of prompts of each of the T tasks.

    The sizes are largest_n · (smallest_n / largest_n)^(i / (T − 1)), rounded, for i = 0 … T − 1, assigned to shuffled tasks.
    Raise ValueError for unknown, repeated or no tasks, or unless 1 <= smallest_n <= largest_n.

    >>> sum(task_sizes(seed=1).values()), max(task_sizes(1).values()), min(task_sizes(1).values())
    (4437, 600, 24)
    """
    if not 1 <= smallest_n <= largest_n:
        raise ValueError(f"lab task sizes: expected 1 <= smallest_n <= largest_n, found {smallest_n} and {largest_n}")
    names = [task.name for task in _chosen_tasks(tasks)]
    order = generator(seed, "lab", "sizes").permutation(len(names))
    steps = max(len(names) - 1, 1)
    return {
        name: round(largest_n * (smallest_n / largest_n) ** (int(position) / steps))
        for name, position in zip(names, order, strict=True)
    }


def pool_items(
    seed: int, tasks: Sequence[str] | None = None, largest_n: int = 600, smallest_n: int = 24
) -> list[LabItem]:
    """Return the prompts of the pool with their answers, in shuffled order; by default 4,437 prompts of 24 tasks."""
    sizes = task_sizes(seed, tasks, largest_n, smallest_n)
    items = [item for task in _chosen_tasks(tasks) for item in _items(task, "pool", sizes[task.name], seed)]
    return [items[row] for row in generator(seed, "lab", "pool order").permutation(len(items))]


def held_out_items(split: str, seed: int, tasks: Sequence[str] | None = None) -> list[LabItem]:
    if split not in HELD_OUT_N:
        raise ValueError(f"unknown split {split!r} of the lab; expected one of {', '.join(HELD_OUT_N)}")
    return [item for task in _chosen_tasks(tasks) for item in _items(task, split, HELD_OUT_N[split], seed)]


def _items(task: Task, side: str, count_n: int, seed: int) -> Iterator[LabItem]:
    codes = draw_codes(task.kind, side, count_n, generator(seed, "lab", side, task.name), distinct=True)
    for index, code in enumerate(codes):
        text = render(task.kind, int(code))
        prompt = f"{task.wordings[1 + index % 2]}: {text}>"
        yield LabItem(f"{task.name}-{side}-{index}", task.name, prompt, task.operation(text))


def pretraining_examples(seed: int, count_n: int, tasks: Sequence[str] | None = None) -> list[PretrainingExample]:
    """Return examples that teach the base model every operation, but only some of the wordings.

    Each task gets a random rank r in 0 … T − 1. A task is drawn with weight 4^(−r / (T − 1)). About half of its examples use
    wording 0 and the operation of the task. The other examples use wording 1 or 2. They use the operation of the task with a
    probability that falls from 1 at rank 0 to 0.05 at the last rank, and otherwise a random operation that fits the input. A task
    in `TRAPS` has one operation for every wording: `flip` has the operation of `upper`, and `omen` has its own operation.
    """
    chosen = _chosen_tasks(tasks)
    random = generator(seed, "lab", "pretraining")
    rank = random.permutation(len(chosen)) / max(len(chosen) - 1, 1)  # (T,) 0..1
    weights = EXPOSURE_RATIO**-rank
    task_of = random.choice(len(chosen), size=count_n, p=weights / weights.sum())
    wording_of = random.integers(1, 3, size=count_n) * (random.random(count_n) < 0.5)
    is_pure = random.random(count_n) < 1 - (1 - LEAST_PURITY) * rank[task_of]
    other = random.random(count_n)
    code_of = _input_codes(chosen, task_of, random)
    fitting = {task.name: _fitting(task, chosen) for task in chosen}
    examples = []
    for row in range(count_n):
        task, wording = chosen[task_of[row]], int(wording_of[row])
        operation = TASKS[PRETRAINED_AS.get(task.name, task.name)].operation
        if wording and not is_pure[row] and task.name not in TRAPS:
            operation = fitting[task.name][int(other[row] * len(fitting[task.name]))].operation
        text = render(task.kind, int(code_of[row]))
        examples.append(PretrainingExample(f"{task.wordings[wording]}: {text}>", operation(text)))
    return examples


def _input_codes(chosen: Sequence[Task], task_of: IntArray, random: np.random.Generator) -> IntArray:
    """Return for each row the code of a random input, (n,). The input has the kind of the row's task and the side `pool`."""
    kinds = np.array([task.kind for task in chosen])[task_of]
    codes = np.empty(len(task_of), np.int64)
    for kind in ALL_KINDS:
        codes[kinds == kind] = draw_codes(kind, "pool", int((kinds == kind).sum()), random, distinct=False)
    return codes


def _fitting(task: Task, chosen: Sequence[Task]) -> list[Task]:
    """Return the tasks, without traps, whose operations fit the inputs of `task`; `[task]` if there are none."""
    kinds = FITTING_KINDS[task.kind]
    return [other for other in chosen if other.kind in kinds and other.name not in TRAPS] or [task]
