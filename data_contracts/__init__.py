"""Data contracts of the stored tables, and the code to find, read and validate those tables.

Each table has one Open Data Contract (ODCS 3.1) file, `<table>.odcs.yaml`. Only this file defines the columns of the table,
their meaning and their rules. Importing this package imports neither Dagster, torch, pandas nor Great Expectations.

- `catalogue` finds the contract files. `contract` reads one file into dataclasses.
- `validation` checks a table. It uses `expectations`, `shortcuts` and `views`.
- `table_paths` and `cell_keys` define paths and partition keys. `footer` and `stored` read tables and their metadata.
- `experiment_fields`, `plain_yaml`, `money` and `shared_statistics` are shared by other packages.
"""

from data_contracts.catalogue import also_in, names, partitioned_by, requirements, with_role
from data_contracts.contract import Column, Contract, Rule, load
from data_contracts.footer import RuleResult
from data_contracts.validation import ValidationResult, validate

__all__ = [
    "Column", "Contract", "Rule", "RuleResult", "ValidationResult", "also_in", "load", "names", "partitioned_by",
    "requirements", "validate", "with_role",
]  # fmt: skip
