"""Validation of a table against its contract. The results are stored with the table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data_contracts import expectations
from data_contracts.contract import Contract, Rule
from data_contracts.footer import RuleResult
from data_contracts.views import VIEWS

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition


@dataclass(frozen=True)
class ValidationResult:
    """The results of all rules of a contract, in the contract's order."""

    rules: tuple[RuleResult, ...]

    @property
    def is_valid(self) -> bool:
        """Whether the table may be published: all rules of severity `error` passed."""
        return not any(rule.severity == "error" for rule in self.failed)

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        """The rules that did not pass, including warnings."""
        return tuple(rule for rule in self.rules if not rule.passed)


def validate(contract: Contract, table: pa.Table, parameters: Mapping[str, object] | None = None) -> ValidationResult:
    """Check a table against every rule of its contract.

    A rule can contain `$name` instead of a value. `parameters` maps each name to its value. If the schema of the table differs
    from the contract's schema, only the rule `schema` is checked. The other rules count as not passed, and their text `observed`
    says so.

    Raises:
        ValueError: a parameter is missing or does not fit the table, or a rule names a column that its view does not have.
        RuntimeError: a rule could not be evaluated although the schema is right. The contract or a parameter has a mistake.
    """
    rules = [_fill_in(contract, rule, parameters or {}) for rule in contract.rules]
    schema, others = rules[0], rules[1:]
    differences = schema_differences(contract.arrow_schema, table.schema)
    if differences:
        unchecked = [_result(rule, False, 0, (), "not checked: the schema differs") for rule in others]
        shown = tuple({"difference": expectations.plain(d)} for d in differences[: expectations.EXAMPLES_N])
        broken = _result(schema, False, len(differences), shown, "; ".join(differences))
        return ValidationResult((broken, *unchecked))
    results = {schema.name: _result(schema, True, 0, (), f"{table.num_columns} columns as in the contract")}
    open_source = cache(expectations.open_source)
    for group in _by_view(others):
        results |= _run(open_source, contract, group, table)
    return ValidationResult(tuple(results[rule.name] for rule in rules))


def schema_differences(expected: pa.Schema, actual: pa.Schema) -> tuple[str, ...]:
    """Return sentences on how the actual schema differs from the expected one; empty if they are equal. Metadata is ignored."""
    missing = [f"column {name} is missing" for name in expected.names if name not in actual.names]
    extra = [f"column {name} is not in the contract" for name in actual.names if name not in expected.names]
    twice = [f"column {name} is there {actual.names.count(name)} times" for name in set(actual.names)]
    sentences = missing + extra + sorted(s for s in twice if not s.endswith(" 1 times"))
    if not sentences and expected.names != actual.names:
        order = ", ".join(expected.names)
        sentences.append(f"columns stand in the order {', '.join(actual.names)}; expected {order}")
    for field in expected:
        found = actual.field(field.name) if actual.names.count(field.name) == 1 else field
        if not found.equals(field):
            sentences.append(f"column {field.name} is {_type_of(found)}; expected {_type_of(field)}")
    return tuple(sentences)


def _type_of(field: pa.Field) -> str:
    return f"{field.type} {'null' if field.nullable else 'not null'}"


def _fill_in(contract: Contract, rule: Rule, parameters: Mapping[str, object]) -> Rule:
    for name in rule.parameters:
        if name not in parameters:
            raise ValueError(
                f"rule {rule.name} of contract {contract.name} needs parameter {name!r}, which is not given; "
                f"given: {', '.join(parameters) or 'none'}"
            )

    def fill(values: Mapping[str, Any]) -> dict[str, Any]:
        is_name = {key: isinstance(value, str) and value.startswith("$") for key, value in values.items()}
        return {key: parameters[value[1:]] if is_name[key] else value for key, value in values.items()}

    return replace(rule, kwargs=fill(rule.kwargs), arguments=fill(rule.arguments))


def _by_view(rules: Iterable[Rule]) -> list[list[Rule]]:
    groups: dict[tuple[object, ...], list[Rule]] = defaultdict(list)
    for rule in rules:
        # Values of parameters can be long lists and are never copied, so compare them by object identity.
        arguments = rule.arguments.items()
        same = tuple((name, value if isinstance(value, str) else id(value)) for name, value in arguments)
        groups[rule.view, same].append(rule)
    return list(groups.values())


def _run(
    open_source: "Callable[[], BatchDefinition[Any]]", contract: Contract, rules: list[Rule], table: pa.Table
) -> dict[str, RuleResult]:
    first = rules[0]
    place = f"contract {contract.name}, {', '.join(rule.name for rule in rules)}"
    try:
        view = VIEWS[first.view](table, **first.arguments)
    except (ValueError, pa.ArrowTypeError) as error:  # Arrow's error for a wrong value is a ValueError
        raise ValueError(f"{place}: a parameter does not fit the table: {error}") from error
    results = {}
    for rule, outcomes in zip(rules, expectations.run(open_source, rules, view, contract.key).values(), strict=True):
        failing = [outcome for outcome in outcomes if not outcome.passed]
        examples = tuple(example for outcome in failing for example in outcome.examples)[: expectations.EXAMPLES_N]
        observed = "; ".join(dict.fromkeys(outcome.observed for outcome in failing or outcomes))
        unexpected_n = sum(outcome.unexpected_n for outcome in failing)
        results[rule.name] = _result(rule, not failing, unexpected_n, examples, observed)
    return results


def _result(
    rule: Rule, passed: bool, unexpected_n: int, examples: tuple[dict[str, object], ...], observed: str
) -> RuleResult:
    return RuleResult(rule.name, rule.severity, passed, unexpected_n, examples, rule.description, observed)
