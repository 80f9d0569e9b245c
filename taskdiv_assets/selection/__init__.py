"""Which prompts to annotate first: pure functions from arrays to orders.

A strategy is one total order of a pool per seed, a budget a prefix of it (`strategies`). numpy only: no
Dagster, no torch, no files, no clock. Apart from `strategies`: `apportionment` shares a budget among tasks,
`strata` joins task weights and within-task orders, `uncertainty` sorts by a score, `coverage` picks by
embeddings, `streams` is randomness.
"""

from taskdiv_assets.selection.pool import SelectionPool, parse_prompt_ids
from taskdiv_assets.selection.strategies import STRATEGIES, Strategy, rank

__all__ = ["STRATEGIES", "SelectionPool", "Strategy", "parse_prompt_ids", "rank"]
