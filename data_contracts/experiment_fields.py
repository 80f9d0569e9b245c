"""Fields of an experiment file that both the settings and the report read: two defaults, and the names of strategies.

The report reads the file as the user wrote it, without the settings classes of `taskdiv_assets.experiment`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

PURPOSE: Final[Literal["campaign"]] = "campaign"  # default
SEEDS: Final = (0, 1, 2)  # default: three is the fewest from which an interval over seeds says something


def strategy_names(entries: Any) -> Any:
    """Return the names in the `strategies` of an experiment file, in order.

    An entry is a name, or a mapping with a `name` (the user's own order). Anything else is returned unchanged, so that a
    validator can reject it.

    >>> strategy_names(["random", {"name": "ours", "scores": "mine.csv"}])
    ['random', 'ours']
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return entries
    return [entry.get("name") if isinstance(entry, Mapping) else entry for entry in entries]
