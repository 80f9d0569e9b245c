"""Contracts as frozen dataclasses: columns, key and rules of a table.

The rules `schema`, `key_unique`, `not_null` and `sorted_by_key` are derived from the columns. The other rules are in the contract
file. Dagster lists the rules of all tables whenever it loads its definitions, so loading a contract does not import pandas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow as pa

from data_contracts import catalogue

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, SchemaProperty

Severity = Literal["error", "warning"]

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "timestamp[us, UTC]": pa.timestamp("us", tz="UTC"),
    "dictionary<int32, string>": pa.dictionary(pa.int32(), pa.string()),
}


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    logical_type: str  # ODCS: string, integer, number, boolean, timestamp
    physical_type: str  # a key of ARROW_TYPES
    unit: str  # "" if the values have no unit
    description: str
    is_required: bool
    is_key: bool


@dataclass(frozen=True)
class Rule:
    """One rule of a contract. Each rule except `schema` is a Great Expectations expectation on a view of the table.

    A text `$name` in `kwargs` or `arguments` refers to the parameter `name`. The caller of `validate` passes its value.
    If `kwargs["column"]` is a list, the rule has one expectation for each column in it.
    """

    name: str
    severity: Severity
    description: str
    expectation: str  # expectation type of Great Expectations; "" for `schema`, which is checked with Arrow
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    view: str = "rows"  # name of a function in views.py
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the view's function

    @property
    def parameters(self) -> tuple[str, ...]:
        values = [*self.kwargs.values(), *self.arguments.values()]
        return tuple(value[1:] for value in values if isinstance(value, str) and value.startswith("$"))


@dataclass(frozen=True)
class Contract:
    """The contract of a stored table."""

    name: str
    description: str
    owner: str
    arrow_schema: pa.Schema
    key: tuple[str, ...]  # columns that identify a row, in sort order
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]  # `schema`, then the other rules from the columns, then those of the file

    def rule(self, name: str) -> Rule:
        """Return the rule with this name. Raise KeyError with the names of all rules if there is no such rule."""
        for rule in self.rules:
            if rule.name == name:
                return rule
        known = ", ".join(rule.name for rule in self.rules)
        raise KeyError(f"contract {self.name} has no rule {name!r}; its rules: {known}")


def load(name: str) -> Contract:
    """Return the contract of the table `name`.

    Raise ValueError if there is none or it has a mistake, such as an unknown type, and yaml.YAMLError if a contract is not YAML.
    """
    return _load(name, catalogue.folders())


@cache
def _load(name: str, folders: tuple[Traversable, ...]) -> Contract:  # `folders` is part of the cache key
    return _contract(catalogue.document(name))


def parse(text: str) -> Contract:
    """Return the contract in an ODCS text. Raise ValueError if it has a mistake, and yaml.YAMLError if the text is not YAML."""
    return _contract(catalogue.read(text))


def _contract(content: Mapping[str, Any]) -> Contract:
    from open_data_contract_standard.model import OpenDataContractStandard, Team

    document = OpenDataContractStandard(**content)
    if len(document.schema_ or ()) != 1:
        raise ValueError(f"contract {document.name!r}: expected one table under `schema`")
    table = (document.schema_ or [])[0]
    name = table.name or ""
    columns = tuple(_column(name, item) for item in table.properties or ())
    key = tuple(
        item.name or ""
        for item in sorted(table.properties or (), key=lambda item: item.primaryKeyPosition or 0)
        if item.primaryKey
    )
    return Contract(
        name=name,
        description=((document.description and document.description.purpose) or "").strip(),
        owner=(document.team.name or "") if isinstance(document.team, Team) else "",
        arrow_schema=pa.schema(
            [pa.field(c.name, ARROW_TYPES[c.physical_type], nullable=not c.is_required) for c in columns]
        ),
        key=key,
        columns=columns,
        rules=(*_rules_of_columns(key, columns), *(_rule(name, item) for item in table.quality or ())),
    )


def _column(table: str, item: "SchemaProperty") -> Column:
    physical_type = item.physicalType or ""
    if physical_type not in ARROW_TYPES:
        raise ValueError(
            f"contract {table}, column {item.name!r}: physicalType {physical_type!r} is none of "
            + ", ".join(ARROW_TYPES)
        )
    units = [prop.value for prop in item.customProperties or () if prop.property == "unit"]
    return Column(
        name=item.name or "",
        logical_type=item.logicalType or "",
        physical_type=physical_type,
        unit=str(units[0]) if units else "",
        description=(item.description or "").strip(),
        is_required=bool(item.required),
        is_key=bool(item.primaryKey),
    )


def _rule(table: str, item: "DataQuality") -> Rule:
    place = f"contract {table}, rule {item.name!r}"
    if (item.type, item.engine) != ("custom", "greatExpectations") or not isinstance(item.implementation, dict):
        raise ValueError(f"{place}: expected type custom, engine greatExpectations, implementation with a type")
    if item.severity not in ("error", "warning"):
        raise ValueError(f"{place}: severity {item.severity!r} is neither error nor warning")
    meta = item.implementation.get("meta", {})
    return Rule(
        name=item.name or "",
        severity=cast(Severity, item.severity),
        description=(item.description or "").strip(),
        expectation=item.implementation["type"],
        kwargs=item.implementation.get("kwargs", {}),
        view=meta.get("view", "rows"),
        arguments=meta.get("arguments", {}),
    )


def _rules_of_columns(key: tuple[str, ...], columns: tuple[Column, ...]) -> tuple[Rule, ...]:
    required = [column.name for column in columns if column.is_required]
    unique: tuple[str, dict[str, object]] = ("expect_compound_columns_to_be_unique", {"column_list": list(key)})
    if len(key) == 1:  # the compound expectation needs at least two columns
        unique = ("expect_column_values_to_be_unique", {"column": key[0]})
    missing, equal = "expect_column_values_to_not_be_null", "expect_column_pair_values_to_be_equal"
    in_order = f"Rows are in order of {', '.join(key)}, nulls last."
    rows = {"column_A": "row", "column_B": "row_when_sorted"}
    return (
        Rule("schema", "error", "Columns, order, types and nullability are those of the contract.", ""),
        Rule("key_unique", "error", f"No two rows share {', '.join(key)}.", *unique),
        Rule("not_null", "error", f"Neither null nor NaN: {', '.join(required)}.", missing, {"column": required}),
        Rule("sorted_by_key", "error", in_order, equal, rows, "row_order", {"key": list(key)}),
    )
