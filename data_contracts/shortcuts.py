"""Fast checks by Arrow, which run before Great Expectations.

A check can show that a rule is met, but not that a rule is broken.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ROW_COUNT = "expect_table_row_count_to_be_between"
UNIQUE = frozenset({"expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique"})
ROW_BY_ROW = frozenset(
    {
        "expect_column_pair_values_a_to_be_greater_than_b",
        "expect_column_pair_values_to_be_equal",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_null",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_not_be_null",
    }
)


def is_clear(expectation: str, kwargs: Mapping[str, Any], view: pa.Table) -> bool:
    """Return True only if the view meets the expectation. False means that Great Expectations must check."""
    if not view.num_rows and expectation in UNIQUE | ROW_BY_ROW:
        return True
    look = _LOOKS.get(expectation)
    return look is not None and kwargs.keys() <= signature(look).parameters.keys() and look(view, **kwargs)


def repeated(view: pa.Table, columns: Sequence[str]) -> NDArray[np.bool_]:  # (n,)
    """Return for each row whether a value in `columns` is missing, or another row has the same values in `columns`."""
    codes = np.zeros(view.num_rows, np.int64)
    size = 1
    is_kept = np.zeros(view.num_rows, np.bool_)
    for name in columns:
        is_kept |= pc.is_null(view[name], nan_is_null=True).to_numpy()
        encoded = view[name].unify_dictionaries() if pa.types.is_dictionary(view[name].type) else view[name]
        if not pa.types.is_dictionary(encoded.type):
            encoded = encoded.dictionary_encode(null_encoding="encode")
        distinct_n = max((len(chunk.dictionary) for chunk in encoded.chunks), default=0) + 1
        if size * distinct_n >= 2**62:
            values, codes = np.unique(codes, return_inverse=True)
            size = len(values)
        codes = codes * distinct_n
        start = 0
        for chunk in encoded.chunks:
            codes[start : start + len(chunk)] += pc.fill_null(chunk.indices, distinct_n - 1).to_numpy()
            start += len(chunk)
        size *= distinct_n
    in_order = np.sort(codes)
    twice = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
    return is_kept | np.isin(codes, twice) if len(twice) else is_kept


def is_sorted(table: pa.Table, key: Sequence[str], *, strictly: bool = False) -> bool:
    """Return True only if the rows are sorted by the columns of `key` and, with `strictly`, no two rows have the same key.

    The result is always False if a key column has null values or is a dictionary column.

    >>> is_sorted(pa.table({"a": [1, 1, 2], "b": ["x", "y", "x"]}), ["a", "b"], strictly=True)
    True
    """
    if any(table[name].null_count or pa.types.is_dictionary(table[name].type) for name in key):
        return False
    is_before = pa.repeat(pa.scalar(False), max(table.num_rows - 1, 0))
    is_equal = pa.repeat(pa.scalar(True), max(table.num_rows - 1, 0))
    for name in key:
        one, other = table[name].slice(0, table.num_rows - 1), table[name].slice(1)
        is_before = pc.or_(is_before, pc.and_(is_equal, pc.less(one, other)))
        is_equal = pc.and_(is_equal, pc.equal(one, other))
    return _is_all(is_before if strictly else pc.or_(is_before, is_equal))


def _is_all(values: Any) -> bool:
    return bool(pc.all(values, skip_nulls=False).as_py())


def _is_all_there(view: pa.Table, column: str) -> bool:
    return not pc.any(pc.is_null(view[column], nan_is_null=True)).as_py()


def _is_all_missing(view: pa.Table, column: str) -> bool:
    return bool(view[column].null_count == view.num_rows)


def _is_between(
    view: pa.Table,
    column: str,
    min_value: float | None = None,
    max_value: float | None = None,
    strict_min: bool = False,
    strict_max: bool = False,
) -> bool:
    if not (pa.types.is_integer(view[column].type) or pa.types.is_floating(view[column].type)):
        return False
    found = pc.min_max(view[column]).as_py()
    least, most = found["min"], found["max"]
    if least is None:
        return False
    is_above = min_value is None or (least > min_value if strict_min else least >= min_value)
    is_below = max_value is None or (most < max_value if strict_max else most <= max_value)
    return is_above and is_below


def _is_pair_equal(view: pa.Table, column_A: str, column_B: str) -> bool:
    return view[column_A].type == view[column_B].type and _is_all(pc.equal(view[column_A], view[column_B]))


def _is_pair_greater(view: pa.Table, column_A: str, column_B: str, or_equal: bool = False) -> bool:
    compare = pc.greater_equal if or_equal else pc.greater
    return view[column_A].type == view[column_B].type and _is_all(compare(view[column_A], view[column_B]))


def _is_in_set(view: pa.Table, column: str, value_set: Sequence[object]) -> bool:
    allowed = {*value_set, None}
    return all(value in allowed for value in _values(view[column]))


def _matches(view: pa.Table, column: str, regex: str) -> bool:
    """Return whether Python's `re`, as in pandas, finds `regex` in all values but null. Arrow treats white space differently."""
    search = re.compile(regex).search
    return all(value is None or (isinstance(value, str) and search(value)) for value in _values(view[column]))


def _values(column: pa.ChunkedArray) -> Iterator[Any]:
    """Yield the distinct values of each slice of 100,000 rows, so that few Python objects exist at once."""
    for start in range(0, len(column), 100_000):
        yield from pc.unique(column.slice(start, 100_000)).to_pylist()


def _is_unique(view: pa.Table, column: str) -> bool:
    return _are_unique(view, [column])


def _are_unique(view: pa.Table, column_list: Sequence[str]) -> bool:
    return is_sorted(view, column_list, strictly=True) or not repeated(view, column_list).any()


def _has_rows(view: pa.Table, min_value: int | None = None, max_value: int | None = None) -> bool:
    return (min_value is None or view.num_rows >= min_value) and (max_value is None or view.num_rows <= max_value)


_LOOKS: Mapping[str, Callable[..., bool]] = {
    "expect_column_values_to_not_be_null": _is_all_there,
    "expect_column_values_to_be_null": _is_all_missing,
    "expect_column_values_to_be_between": _is_between,
    "expect_column_pair_values_to_be_equal": _is_pair_equal,
    "expect_column_pair_values_a_to_be_greater_than_b": _is_pair_greater,
    "expect_column_values_to_be_in_set": _is_in_set,
    "expect_column_values_to_match_regex": _matches,
    ROW_COUNT: _has_rows,
    "expect_column_values_to_be_unique": _is_unique,
    "expect_compound_columns_to_be_unique": _are_unique,
}
