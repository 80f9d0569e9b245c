"""The ground floor: what is stored, and what a stored table promises.

One Open Data Contract (ODCS 3.1) file a table, `<table>.odcs.yaml`, is the only place that says which columns a table has,
what they mean, and which rules hold. The Arrow schema, the descriptions and the Great Expectations suite come from it.

- `catalogue` finds the contract files: names, order and partitions of the tables. `contract` reads one into dataclasses.
- `validation` checks a table; `expectations`, `shortcuts` and `views` are its parts.
- `table_paths`, `cell_keys`, `footer` and `stored` say where tables lie, what is stored with them, and read them.
- `experiment_fields`, `plain_yaml`, `money` and `shared_statistics` are facts that the settings, the assets and the report share.

Imports neither Dagster, torch, pandas nor Great Expectations.
"""

from data_contracts.catalogue import also_in, names, partitioned_by, requirements, with_role
from data_contracts.contract import Column, Contract, Rule, load
from data_contracts.footer import RuleResult
from data_contracts.validation import ValidationResult, validate

__all__ = [
    "Column",
    "Contract",
    "Rule",
    "RuleResult",
    "ValidationResult",
    "also_in",
    "load",
    "names",
    "partitioned_by",
    "requirements",
    "validate",
    "with_role",
]
