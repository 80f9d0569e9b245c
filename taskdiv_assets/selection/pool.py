"""The data that a strategy can read, such as ids, tasks, scores, embeddings and texts of the prompts of a pool.

There is no field for responses, so no strategy can read a response. `SelectionPool` checks shapes, types and ids.
`strategies.rank` checks that the numbers which a strategy needs exist and are finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.checks import check_real

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Progress = Callable[[int, int], None]  # callback that receives (picks made, all picks to make)
TASK_MEANS = "task_confidence"  # the name of a need of a strategy, of a table, and of a field of the pool


@dataclass(frozen=True, eq=False)
class SelectionPool:
    """The prompts to choose from. Row i of (n, …) arrays describes prompt i. Fields that a strategy does not read may be empty.

    Raise ValueError for unusable fields, such as a wrong shape, numbers that are not real, or an id that occurs twice.
    """

    prompt_ids: NDArray[np.uint64]  # (n,) the 16 hex digits of prompt_id, as a number
    tasks: Integers = field(default_factory=lambda: np.empty(0, np.int32))  # (n,) positions in task_names; or (0,)
    task_names: tuple[str, ...] = ()  # T names
    task_confidence: Floats | None = None  # (T,) mean confidence of the base model per task, in (0, 1]
    scores: Mapping[str, Floats] = field(default_factory=dict)  # column of confidence_table -> (n,)
    embeddings: Floats | Tensor | None = None  # (n, d) L2-normalised rows; an array, memory map or tensor
    prompts: tuple[str, ...] | None = None  # n texts, for strategies that need "prompts"
    confidence_column: str = ""  # the column that task_confidence is the mean of, for messages

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

    @property
    def confidence_name(self) -> str:
        return f"task_confidence ({self.confidence_column})" if self.confidence_column else "task_confidence"

    @property
    def has_means(self) -> bool:
        return self.task_confidence is not None

    def with_means(self, means: Floats) -> SelectionPool:
        """Return the pool with other mean confidences (T,) of its tasks."""
        return replace(self, task_confidence=means)

    def used_confidence(self) -> NDArray[np.float64]:  # (T,)
        """Return each task's mean confidence; it is 1 for a task without prompts.

        Raise ValueError if the mean confidence of a task with prompts is missing or not in (0, 1].
        """
        if self.task_confidence is None:
            raise ValueError("the pool has no task_confidence; materialise task_confidence first.")
        confidence = self.task_confidence.astype(np.float64)
        is_used = np.bincount(self.tasks, minlength=len(confidence)) > 0
        is_wrong = is_used & ~((confidence > 0) & (confidence <= 1))
        if is_wrong.any():
            task = int(np.flatnonzero(is_wrong)[0])
            is_lost = confidence[task] == 0
            hint = "is it a product too small for a float?" if is_lost else "is it a log-probability without exp()?"
            raise ValueError(
                f"{self.confidence_name} of {int(is_wrong.sum())} tasks is not a probability in (0, 1], the first is task "
                f"{self.task_names[task]!r} with {confidence[task]}; {hint}"
            )
        return np.where(is_used, confidence, 1.0)


def parse_prompt_ids(prompt_ids: Sequence[str]) -> NDArray[np.uint64]:  # (n,)
    """Convert prompt ids of 16 lower-case hex digits to 64-bit numbers, which sort in the same order. Other ids raise ValueError.

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
            "Convert text ids with parse_prompt_ids."
        )
    if not len(prompt_ids):
        raise ValueError("the pool has no prompts; expected at least one row in prompt_ids.")
    ids = np.sort(prompt_ids)
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise ValueError(
            f"{len(twice)} rows of prompt_ids repeat another row's id, the first is {twice[0]:016x}; "
            "expected one id per prompt: look for rows that were read twice."
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
        raise ValueError(f"task_names has {len(names)} entries, {len(set(names))} of them different; name each once.")
    if tasks.shape == (0,):
        return
    _check_shape("tasks", tasks, (n,))
    if not np.issubdtype(tasks.dtype, np.integer) or tasks.dtype == np.uint64:  # np.bincount takes no uint64
        raise ValueError(f"tasks has dtype {tasks.dtype}; expected integer codes, positions in task_names.")
    lowest, highest = int(tasks.min()), int(tasks.max())
    if lowest < 0 or highest >= len(names):
        expected = f"0 to {len(names) - 1}, one per task name"
        raise ValueError(f"tasks holds codes from {lowest} to {highest}; expected {expected}.")
