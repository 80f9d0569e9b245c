"""Rules for experiment files, shared by the settings and the report: allowed names, two defaults, and the strategies' names.

The report reads the file as the user wrote it, without the settings classes of `taskdiv_assets.experiment`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from data_contracts.cell_keys import FULL_POOL_STRATEGY

NAME_PATTERN: Final = (
    r"^[a-z0-9_]+$"  # allowed names of experiments, benchmarks and strategies: they become part of paths
)
PURPOSE: Final[Literal["campaign"]] = "campaign"  # default
SEEDS: Final = (0, 1, 2)  # default: a useful interval over seeds needs at least three


def strategy_names(entries: Any) -> Any:
    """Return the strategy names in the `strategies` of an experiment file, in order.

    An entry is a name, or a mapping with a `name`. A mapping without a name gives None. Entries of any other kind are returned
    unchanged, as is `entries` itself if it is not a list. So a validator can reject them.

    >>> strategy_names(["random", {"name": "ours", "scores": "mine.csv"}])
    ['random', 'ours']
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return entries
    return [entry.get("name") if isinstance(entry, Mapping) else entry for entry in entries]


def compared_strategies(names: Sequence[str]) -> tuple[str, ...]:
    """Return strategy and reference of the primary comparison if the file declares none; () for fewer than two strategies.

    The reference is `random`, or the first strategy if `random` is missing. The strategy is the last one that is not the
    reference.

    >>> compared_strategies(["random", "min_margin", "dpp"]), compared_strategies(["dpp", "min_margin"])
    (('dpp', 'random'), ('min_margin', 'dpp'))
    """
    if len(names) < 2:
        return ()
    reference = FULL_POOL_STRATEGY if FULL_POOL_STRATEGY in names else names[0]
    return next(name for name in reversed(names) if name != reference), reference
