"""The lab: a pool of small text tasks made by a procedure, its held-out items, and what its base model is shown.

In: seeds, and for a miniature the names of some tasks and the largest and smallest task size. Out: prompts and
answers. The inputs of the held-out items appear in no pool and in no pretraining of any seed
(`lab_operations.sides`). Training the base model is not here, but in `language_model.lab_model`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

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

if TYPE_CHECKING:
    import pyarrow as pa

    from taskdiv_assets.experiment.pool_settings import Pool

__all__ = [
    "HELD_OUT_N",
    "TASKS",
    "TRAPS",
    "LabItem",
    "PretrainingExample",
    "held_out_items",
    "pool_items",
    "pool_table",
    "pretraining_examples",
    "task_sizes",
]

HELD_OUT_N = {"test": 40, "validation": 20}  # items a task
LEAST_PURITY = 0.05
EXPOSURE_RATIO = 4.0


class LabItem(NamedTuple):
    """One prompt with its right answer, such as ("reverse-test-3", "reverse", "spell backwards: abcd>", "dcba")."""

    item_id: str
    task: str
    prompt: str
    response: str


class PretrainingExample(NamedTuple):
    """What the base model sees: the text up to and including ">", and the answer that the loss falls on."""

    prompt: str
    response: str


def chosen_tasks(names: Sequence[str] | None) -> tuple[Task, ...]:
    """The tasks of a (miniature) lab, in the lab's own order whatever the order of `names`.

    Raises:
        ValueError: no task, an unknown one, or one that stands twice.
    """
    if names is None:
        return tuple(TASKS.values())
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names or len(set(names)) < len(names):
        problem = (
            f"unknown lab task {', '.join(unknown)}" if unknown else "lab tasks: expected at least one, none twice"
        )
        raise ValueError(f"{problem}; choose from {', '.join(TASKS)}")
    return tuple(task for task in TASKS.values() if task.name in names)


def task_sizes(
    seed: int, tasks: Sequence[str] | None = None, largest_n: int = 600, smallest_n: int = 24
) -> dict[str, int]:
    """Prompts per task: largest_n · (smallest_n / largest_n)^(i / (T − 1)), dealt to the tasks in shuffled order.

    >>> sum(task_sizes(seed=1).values()), max(task_sizes(1).values()), min(task_sizes(1).values())
    (4437, 600, 24)
    """
    if not 1 <= smallest_n <= largest_n:
        raise ValueError(f"lab task sizes: expected 1 <= smallest_n <= largest_n, found {smallest_n} and {largest_n}")
    names = [task.name for task in chosen_tasks(tasks)]
    order = generator(seed, "lab", "sizes").permutation(len(names))
    steps = max(len(names) - 1, 1)
    return {
        name: round(largest_n * (smallest_n / largest_n) ** (int(position) / steps))
        for name, position in zip(names, order, strict=True)
    }


def pool_items(
    seed: int, tasks: Sequence[str] | None = None, largest_n: int = 600, smallest_n: int = 24
) -> list[LabItem]:
    """The pool with its answers, in shuffled order: no input twice in a task, wordings 1 and 2 equally often.

    The default has 24 tasks and 4,437 prompts.
    """
    sizes = task_sizes(seed, tasks, largest_n, smallest_n)
    items = [item for task in chosen_tasks(tasks) for item in _items(task, "pool", sizes[task.name], seed)]
    return [items[row] for row in generator(seed, "lab", "pool order").permutation(len(items))]


def held_out_items(split: str, seed: int, tasks: Sequence[str] | None = None) -> list[LabItem]:
    """The items that adapters are judged by ("test", 40 a task) or settings are chosen by ("validation", 20 a task)."""
    if split not in HELD_OUT_N:
        raise ValueError(f"unknown split {split!r} of the lab; expected one of {', '.join(HELD_OUT_N)}")
    return [item for task in chosen_tasks(tasks) for item in _items(task, split, HELD_OUT_N[split], seed)]


def _items(task: Task, side: str, count_n: int, seed: int) -> Iterator[LabItem]:
    """Items of one task on one side, wordings 1 and 2 in turn."""
    codes = draw_codes(task.kind, side, count_n, generator(seed, "lab", side, task.name), distinct=True)
    for index, code in enumerate(codes):
        text = render(task.kind, int(code))
        prompt = f"{task.wordings[1 + index % 2]}: {text}>"
        yield LabItem(f"{task.name}-{side}-{index}", task.name, prompt, task.operation(text))


def pool_table(settings: Pool) -> pa.Table:
    """The pool as raw material for `pools.frame`: columns prompt, response, source_task."""
    import pyarrow as pa

    items = pool_items(settings.seed, settings.tasks, settings.largest_n, settings.smallest_n)
    columns = {
        "prompt": [item.prompt for item in items],
        "response": [item.response for item in items],
        "source_task": [item.task for item in items],
    }
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def pretraining_examples(seed: int, count_n: int, tasks: Sequence[str] | None = None) -> list[PretrainingExample]:
    """What gives the base its skills, and ties only some wordings to them.

    The tasks are put in a seeded order of ranks r = 0 … T − 1. A task is drawn with weight 4^(−r / (T − 1)). Half of
    its examples use wording 0, with the task's own operation. The others use wording 1 or 2, with the task's own
    operation with probability `purity`, which falls from 1 at rank 0 to 0.05 at the last rank, and otherwise with a
    random operation that fits the input. The traps are what they are under every wording: `flip` is answered in upper
    case, `omen` at random.
    """
    chosen = chosen_tasks(tasks)
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
    """(n,) input codes, each of its task's kind and on the pool's side."""
    kinds = np.array([task.kind for task in chosen])[task_of]
    codes = np.empty(len(task_of), np.int64)
    for kind in ALL_KINDS:
        codes[kinds == kind] = draw_codes(kind, "pool", int((kinds == kind).sum()), random, distinct=False)
    return codes


def _fitting(task: Task, chosen: Sequence[Task]) -> list[Task]:
    """The operations that a wording of this task may be tied to instead: those that fit its input, traps left out."""
    kinds = FITTING_KINDS[task.kind]
    return [other for other in chosen if other.kind in kinds and other.name not in TRAPS] or [task]
