"""What a strategy may look at: ids, tasks, scores, embeddings and texts of a pool's prompts.

There is no field for responses, so no strategy can read one. Shapes, types and ids are checked here, once;
whether the numbers that a strategy needs are there and finite is checked where it runs (`strategies.rank`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.checks import check_real

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Progress = Callable[[int, int], None]  # told (picks made, picks in all) now and then


@dataclass(frozen=True, eq=False)
class SelectionPool:
    """The prompts to choose from; row i of every array is the same prompt. What a strategy does not need may be empty.

    Raises ValueError where shapes differ, numbers are not real, an id stands twice, or a task code has no name.
    """

    prompt_ids: NDArray[np.uint64]  # (n,) the 16 hex digits of prompt_id, as a number
    tasks: Integers = field(default_factory=lambda: np.empty(0, np.int32))  # (n,) codes into task_names; or (0,)
    task_names: tuple[str, ...] = ()  # T names
    task_confidence: Floats | None = None  # (T,) mean confidence of the base model per task, in (0, 1]
    scores: Mapping[str, Floats] = field(default_factory=dict)  # column of confidence_table -> (n,)
    embeddings: Floats | Tensor | None = (
        None  # (n, d) L2-normalised rows; a memory map does, and so does a torch tensor
    )
    prompts: tuple[str, ...] | None = None  # (n,) texts, only for strategies that need "prompts"
    confidence_column: str = ""  # what task_confidence is the mean of, for messages

    def __post_init__(self) -> None:
        _check_ids(self.prompt_ids)
        n = len(self.prompt_ids)
        for name, scores in self.scores.items():
            _check_shape(f"scores[{name!r}]", scores, (n,))
            check_real(f"scores[{name!r}]", scores)
        if self.embeddings is not None:
            _check_embeddings(self.embeddings, n)
        if self.prompts is not None and len(self.prompts) != n:
            raise ValueError(f"prompts has {len(self.prompts)} texts; expected {n}, one per prompt id.")
        _check_tasks(self.tasks, self.task_names, n)
        if self.task_confidence is not None:
            _check_shape("task_confidence", self.task_confidence, (len(self.task_names),))
            check_real("task_confidence", self.task_confidence)


def parse_prompt_ids(prompt_ids: Sequence[str]) -> NDArray[np.uint64]:  # (n,)
    """Prompt ids of 16 hex digits as 64-bit numbers, in which numeric order is the order of the text.

    >>> parse_prompt_ids(["00000000000000ff"]).tolist()
    [255]
    """
    wrong = [i for i in prompt_ids if len(i) != 16 or i.strip("0123456789abcdef")]
    if wrong:
        raise ValueError(
            f"{len(wrong)} prompt ids are not 16 lower-case hex digits, the first is {wrong[0]!r}; "
            "pass the prompt_id column of raw_pool."
        )
    return np.frombuffer(bytes.fromhex("".join(prompt_ids)), ">u8").astype(np.uint64)


def _check_ids(prompt_ids: NDArray[np.uint64]) -> None:
    if prompt_ids.dtype != np.uint64 or prompt_ids.ndim != 1:
        raise ValueError(
            f"prompt_ids has dtype {prompt_ids.dtype} and shape {prompt_ids.shape}; expected uint64 and (n,). "
            "parse_prompt_ids turns the text ids into numbers."
        )
    if not len(prompt_ids):
        raise ValueError("the pool has no prompts; expected at least one row in prompt_ids.")
    ids = np.sort(prompt_ids)
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise ValueError(
            f"{len(twice)} rows of prompt_ids repeat another row's id, the first is {twice[0]:016x}; "
            "every prompt of a pool has an id of its own: look for rows that were read twice."
        )


def _check_shape(name: str, values: NDArray[Any] | Tensor, expected: tuple[int, ...]) -> None:
    if values.shape != expected:
        shown = ", ".join("d" if size < 0 else str(size) for size in expected)
        raise ValueError(f"{name} has shape {values.shape}; expected ({shown}), as the pool's ids and task names say.")


def _check_embeddings(embeddings: Floats | Tensor, n: int) -> None:
    _check_shape("embeddings", embeddings, (n, embeddings.shape[-1] if embeddings.ndim == 2 else -1))
    if embeddings.shape[1] == 0:
        raise ValueError(f"embeddings has shape {tuple(embeddings.shape)}; expected (n, d) of at least one dimension.")
    check_real("embeddings", embeddings)


def _check_tasks(tasks: Integers, names: tuple[str, ...], n: int) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"task_names has {len(names)} entries but {len(set(names))} different ones; name a task once.")
    if tasks.shape == (0,):
        return
    _check_shape("tasks", tasks, (n,))
    if not np.issubdtype(tasks.dtype, np.integer) or tasks.dtype == np.uint64:  # np.bincount takes no uint64
        raise ValueError(
            f"tasks has dtype {tasks.dtype}; expected integer codes such as int32, positions in task_names."
        )
    lowest, highest = int(tasks.min()), int(tasks.max())
    if lowest < 0 or highest >= len(names):
        raise ValueError(
            f"tasks holds codes from {lowest} to {highest}; expected 0 to {len(names) - 1}, one per task name."
        )
