"""The names in the `strategies` of an experiment file, whose entries are a name or an order of the user's own.

Here, where nothing heavy is imported, so that the experiment's settings and the report's view of them read entries alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def strategy_name(entry: Any) -> Any:
    """Return the name of one entry: its own, or the `name` of a mapping. Anything else is returned as it is.

    >>> strategy_name("random"), strategy_name({"name": "ours", "scores": "mine.csv"})
    ('random', 'ours')
    """
    return entry.get("name") if isinstance(entry, Mapping) else entry


def strategy_names(entries: Any) -> Any:
    """Return the names of all entries, in their order. What is no list is returned as it is, for a validator to refuse."""
    is_list = isinstance(entries, Sequence) and not isinstance(entries, str)
    return [strategy_name(entry) for entry in entries] if is_list else entries
