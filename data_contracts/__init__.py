"""The contracts of the stored tables: what a table promises, and whether a given one keeps it.

One Open Data Contract (ODCS 3.1) file a table, `<table>.odcs.yaml`, is the only place that says which columns
a table has, what they mean, and which rules hold. From it come the Arrow schema, the descriptions and the
Great Expectations suite.

- `catalogue.py` finds the contract files, and knows the order and the partitions of the tables.
- `contract.py` reads a file into frozen dataclasses; cheap: definitions list rules without pandas.
- `views.py` are the small Arrow functions that rules about seeds, tasks and other tables look through.
- `expectations.py` runs Great Expectations on one view.
- `validation.py` puts these together.

Nothing here knows Dagster, torch or where a table is stored.
"""

from data_contracts.catalogue import also_in, names, partitioned_by, requirements, with_role
from data_contracts.contract import Column, Contract, Rule, load
from data_contracts.validation import RuleResult, ValidationResult, validate

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
