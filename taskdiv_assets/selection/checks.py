"""Checks of numbers and orders, independent of pools and strategies."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def whole_number(
    name: str,  # of the argument, for the error message
    value: Any,  # a float such as 2.0 is accepted
    unit: str = "",  # what the number counts, for the error message
    least: int | None = None,
) -> int:
    """Return `value` as a Python integer; raise ValueError if it is not a whole number or is below `least`.

    >>> whole_number("depth", np.int64(7), "prompts", least=1)
    7
    """
    is_whole = isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and value.is_integer())
    if not is_whole or (least is not None and value < least):
        what = f"a whole number of {unit}" if unit else "a whole number"
        raise ValueError(f"{name} is {value!r}; expected {what}{'' if least is None else f', {least} or more'}.")
    return int(value)


def check_real(name: str, values: Any) -> None:
    dtype = values.dtype
    is_real = np.can_cast(dtype, np.float64, "same_kind") if isinstance(dtype, np.dtype) else not dtype.is_complex
    if not is_real:
        raise ValueError(f"{name} has dtype {dtype}; expected real numbers, such as float32. Convert them first.")


def check_order(name: str, order: Any, pool_n: int) -> NDArray[np.int64]:  # (k,) row positions
    """Return `order` as an array. Raise ValueError if it does not consist of integers that are different rows of the pool."""
    rows = np.asarray(order)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{name} has dtype {rows.dtype} and shape {rows.shape}; expected integers (k,).")
    wrong = rows[(rows < 0) | (rows >= pool_n)]
    if len(wrong):
        raise ValueError(
            f"{name} holds {len(wrong)} rows that the pool does not have, the first is {wrong[0]}; "
            f"expected positions from 0 to {pool_n - 1}."
        )
    rows = rows.astype(np.int64, copy=False)
    times = np.bincount(rows, minlength=pool_n)
    if times.max() > 1:
        twice = np.flatnonzero(times > 1)
        raise ValueError(
            f"{name} holds {len(twice)} rows more than once, the first is row {twice[0]}; "
            "expected every row at most once: a prompt is annotated once."
        )
    return rows
