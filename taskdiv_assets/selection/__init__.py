"""Which prompts to annotate first: pure functions from arrays to orders.

A strategy is one total order of a pool per seed, a budget a prefix of it (`strategies`). numpy only: no Dagster, no files,
no clock, and torch only where embeddings are its tensors (`on_device`). Apart from `strategies`: `pool` is what a strategy
may look at, `checks` what is refused by name, `streams` randomness. `uncertainty` sorts by a score; `apportionment` shares a
budget among tasks, `strata` joins task weights and within-task orders. `k_center`, `facility_location` (on the graph of
`neighbours`) and `dpp` pick by embeddings, as whole numbers (`grid`), mostly without looking at every row (`lazy`).
"""

from taskdiv_assets.selection.pool import SelectionPool, parse_prompt_ids
from taskdiv_assets.selection.strategies import NEEDS, STRATEGIES, Strategy, rank

__all__ = ["NEEDS", "STRATEGIES", "SelectionPool", "Strategy", "parse_prompt_ids", "rank"]
