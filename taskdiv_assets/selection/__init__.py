"""Strategies that decide which prompts to annotate first: pure functions from arrays to orders.

A strategy gives one total order of a pool per seed; a budget takes a prefix of it (`strategies`). The package uses numpy
alone: no Dagster, no files, no clock. torch is used only for embeddings that are torch tensors (`on_device`).
"""

from taskdiv_assets.selection.pool import SelectionPool, parse_prompt_ids
from taskdiv_assets.selection.strategies import NEEDS, STRATEGIES, Strategy, rank

__all__ = ["NEEDS", "STRATEGIES", "SelectionPool", "Strategy", "parse_prompt_ids", "rank"]
