"""Strategies that decide which prompts to annotate first. They are pure functions from arrays to orders.

For each seed, a strategy gives one order of all prompts of a pool. A budget takes the first prompts of the order. The package
uses numpy, but no Dagster, no files and no clock. It uses torch only if the embeddings are a torch tensor (see `on_device`).
"""

from taskdiv_assets.selection.pool import SelectionPool, parse_prompt_ids
from taskdiv_assets.selection.strategies import NEEDS, STRATEGIES, Strategy, rank

__all__ = ["NEEDS", "STRATEGIES", "SelectionPool", "Strategy", "parse_prompt_ids", "rank"]
