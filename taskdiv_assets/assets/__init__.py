"""The registry: the list of all assets, in data-flow order. Each asset is a module of this package."""

from importlib import import_module

from taskdiv_assets.graph.registry import Registry

FILES = (
    "raw_pool",
    "task_labels",
    "annotations",
    "held_out_items",
    "contamination",
    "base_model",
    "confidence_table",
    "task_confidence",
    "confidence_comparison",
    "confidence_accuracy",
    "prompt_embeddings",
    "base_scores",
    "tuning_choice",
    "ranking",
    "allocation",
    "annotation_batch",
    "adapter",
    "benchmark_scores",
    "strategy_report",
)
REGISTRY = Registry([import_module(f"{__name__}.{file}").ASSET for file in FILES])
