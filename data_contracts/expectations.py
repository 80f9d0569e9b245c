"""Evaluation of the rules on one view by Great Expectations, with counts and examples of failing rows.

All code that depends on this library is in this module. The library's behaviour explains the code:

- It cannot read Arrow tables, so the columns of the rules and of the examples are converted to pandas.
- It returns results in no fixed order, so the metadata of each expectation contains the rule's name and position.
- It treats NaN as missing, and range rules ignore missing values. So all required columns have the rule `not_null`.
- It needed 1.6 to 6 s to list 50,000 to 100,000 failing rows. So this module uses the BASIC format, which returns failing
  values, and finds the rows of these values.
- It needed two seconds for its import, 0.3 s for the 25 rules of a small table, and 25 s and 1 GB for a table of 5 million rows.
  So Arrow checks every view first (see `shortcuts`), and the library receives the rules that Arrow cannot show to be met. For
  many kinds of rules, the library checks a large view in slices, or only the rows with repeated values. The results are the same.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from data_contracts import shortcuts
from data_contracts.contract import Rule

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.expectations.expectation import Expectation

EXAMPLES_N = 5
EXAMPLE_CHARACTERS_N = 80
ROWS_AT_ONCE = 500_000  # the largest view that the library checks in one call


class Outcome(NamedTuple):
    """The result of one expectation."""

    passed: bool
    unexpected_n: int  # failing rows of the view; 1 for a failing statement about the whole view
    examples: tuple[dict[str, object], ...]  # failing rows, at most EXAMPLES_N
    rows_n: int | None = None  # rows checked; None for a statement about the whole view
    value: object = None  # observed value of a statement about the whole view

    @property
    def observed(self) -> str:
        if self.rows_n is None:
            return f"observed {plain(self.value)}"
        return f"{self.unexpected_n} of {self.rows_n} rows fail"


def open_source() -> "BatchDefinition[Any]":
    """Return a Great Expectations source of data frames in a new ephemeral context.

    Use one source for all frames of a table: opening a source for each frame took a third of the time of a validation. Discard
    the source together with the table, because the source keeps a reference to its last frame.
    """
    context = _great_expectations().get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("view")
    return asset.add_batch_definition_whole_dataframe("whole")


def run(
    open_source: "Callable[[], BatchDefinition[Any]]", rules: Sequence[Rule], view: pa.Table, key: Sequence[str]
) -> dict[str, list[Outcome]]:
    """Check the rules of one view. Return the outcomes of the expectations of each rule, by rule name.

    The rules must contain values instead of `$name`. An example of a failing row has the columns in `key` and the columns of the
    rule, or all columns if the view lacks a column in `key`. `open_source` is called only if Arrow cannot show that all rules are
    met.

    Raises:
        ValueError: a rule names a column that the view does not have.
        RuntimeError: an expectation could not be evaluated.
    """
    for rule in rules:
        if absent := set(_columns(rule)) - set(view.column_names):
            raise ValueError(
                f"rule {rule.name} reads {', '.join(sorted(absent))}, which view {rule.view} does not have; "
                f"its columns: {', '.join(view.column_names)}"
            )
    named = key if set(key) <= set(view.column_names) else view.column_names
    single = [one for rule in rules for one in _one_a_column(rule)]
    clear = [shortcuts.is_clear(rule.expectation, rule.kwargs, view) for rule in single]
    unclear = [rule for rule, is_clear in zip(single, clear, strict=True) if not is_clear]
    found = iter(_judged_all(open_source(), unclear, view, named) if unclear else ())
    outcomes: dict[str, list[Outcome]] = {rule.name: [] for rule in rules}
    for rule, is_clear in zip(single, clear, strict=True):
        outcomes[rule.name].append(_met(rule, view.num_rows) if is_clear else next(found))
    return outcomes


def _met(rule: Rule, rows_n: int) -> Outcome:
    if rule.expectation == shortcuts.ROW_COUNT:
        return Outcome(True, 0, (), value=rows_n)
    return Outcome(True, 0, (), rows_n)


def _judged_all(
    source: "BatchDefinition[Any]", rules: Sequence[Rule], view: pa.Table, named: Sequence[str]
) -> list[Outcome]:
    if view.num_rows <= ROWS_AT_ONCE:
        return _judged(source, rules, view, named)
    return [_judged_large(source, rule, view, named) for rule in rules]


def _judged_large(source: "BatchDefinition[Any]", rule: Rule, view: pa.Table, named: Sequence[str]) -> Outcome:
    rows_n = view.num_rows
    if rule.expectation in shortcuts.ROW_BY_ROW:
        slices = [view.slice(start, ROWS_AT_ONCE) for start in range(0, rows_n, ROWS_AT_ONCE)]
        parts = [_judged(source, [rule], some, named)[0] for some in slices]
        examples = tuple(example for part in parts for example in part.examples)[:EXAMPLES_N]
        unexpected_n = sum(part.unexpected_n for part in parts)
        return Outcome(all(part.passed for part in parts), unexpected_n, examples, rows_n)
    if rule.expectation in shortcuts.UNIQUE:
        view = view.filter(shortcuts.repeated(view, _columns(rule)))
        return _judged(source, [rule], view, named)[0]._replace(rows_n=rows_n)
    return _judged(source, [rule], view, named)[0]


def _judged(
    source: "BatchDefinition[Any]", rules: Sequence[Rule], view: pa.Table, named: Sequence[str]
) -> list[Outcome]:
    gx = _great_expectations()
    frame = _to_pandas(view, [*named, *(column for rule in rules for column in _columns(rule))])
    expectations = [_expectation(rule, position) for position, rule in enumerate(rules)]
    batch = source.get_batch({"dataframe": frame})
    result_format = {"result_format": "BASIC", "partial_unexpected_count": EXAMPLES_N}
    suite = gx.ExpectationSuite(name="rules", expectations=expectations)
    results = batch.validate(suite, result_format=result_format)
    in_order = sorted(results.results, key=lambda result: _meta(result)["position"])
    return [_outcome(result, frame, named) for result in in_order]


def _one_a_column(rule: Rule) -> list[Rule]:
    column = rule.kwargs.get("column")
    if not isinstance(column, list):
        return [rule]
    return [replace(rule, kwargs={**rule.kwargs, "column": name}) for name in column]


def _expectation(rule: Rule, position: int) -> "Expectation":
    _great_expectations()
    from great_expectations.expectations.metadata_types import FailureSeverity
    from great_expectations.expectations.registry import get_expectation_impl

    make = get_expectation_impl(rule.expectation)
    severity = FailureSeverity.CRITICAL if rule.severity == "error" else FailureSeverity.WARNING
    return make(**rule.kwargs, severity=severity, meta={"rule": rule.name, "position": position})


@cache
def _great_expectations() -> ModuleType:
    # The library reads this variable only at import. Without it, each validation would send usage data.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    module: ModuleType = great_expectations
    return module


def _columns(rule: Rule) -> list[str]:
    names: list[str] = []
    for argument in ("column", "column_A", "column_B", "column_list"):
        value = rule.kwargs.get(argument, [])
        names += value if isinstance(value, list) else [value]
    return names


def _to_pandas(view: pa.Table, columns: Iterable[str]) -> "pd.DataFrame":
    table = view.select(list(dict.fromkeys(columns)))
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # as plain strings: pandas compares categories by other rules
            table = table.set_column(position, field.name, table[field.name].cast(field.type.value_type))
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _meta(result: "ExpectationValidationResult") -> Mapping[str, Any]:
    config = result.expectation_config
    if config is None or config.meta is None:
        raise RuntimeError(f"Great Expectations returned a result without its expectation: {result}")
    meta: Mapping[str, Any] = config.meta
    return meta


def _outcome(result: "ExpectationValidationResult", frame: "pd.DataFrame", named: Sequence[str]) -> Outcome:
    kwargs = result.expectation_config.kwargs if result.expectation_config else {}
    info = dict(result.exception_info or {})
    # The library returns one exception directly, but several exceptions as a mapping from metric to exception.
    problems = [info] if "raised_exception" in info else list(info.values())
    raised = [problem["exception_message"] for problem in problems if problem["raised_exception"]]
    if raised:
        raise RuntimeError(f"rule {_meta(result)['rule']} could not be evaluated on {list(frame)}: {raised[0]}")
    details, passed = result.result, bool(result.success)
    if "unexpected_count" not in details:  # a statement about the whole view
        return Outcome(passed, 0 if passed else 1, (), value=details.get("observed_value"))
    unexpected_n = int(details["unexpected_count"])
    examples = _failing_rows(frame, kwargs, details["partial_unexpected_list"], named) if not passed else ()
    return Outcome(passed, unexpected_n, examples, int(details["element_count"]))


def _failing_rows(
    frame: "pd.DataFrame", kwargs: Mapping[str, Any], values: Sequence[Any], named: Sequence[str]
) -> tuple[dict[str, object], ...]:
    import pandas as pd

    pair = [kwargs[name] for name in ("column_A", "column_B") if name in kwargs]
    columns = [kwargs["column"]] if "column" in kwargs else pair or list(kwargs["column_list"])
    if "column" in kwargs:
        values = [(value,) for value in values]
    records = pd.DataFrame.from_records(list(values), columns=columns)
    # A list with only NaN has lost its type and would match no row, so use the types of the frame.
    failing = pd.DataFrame({name: pd.Series(list(records[name]), dtype=frame[name].dtype) for name in columns})
    found = frame.merge(failing.drop_duplicates(), on=columns).head(EXAMPLES_N)
    shown = list(dict.fromkeys([*named, *columns]))
    return tuple({name: plain(row[name]) for name in shown} for _, row in found.iterrows())


def plain(value: object) -> object:
    """Convert a value to JSON: NaN to None, whole floats to integers, infinity and other objects to text. Shorten long texts."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if not math.isfinite(value):
            return str(value)
        # pandas stores whole numbers in a column with nulls as floats.
        return int(value) if value.is_integer() else value
    text = str(value)
    return text if len(text) <= EXAMPLE_CHARACTERS_N else text[: EXAMPLE_CHARACTERS_N - 1] + "…"
