"""The registry: the list of all assets, in data-flow order. Each asset is a module of this package."""

from importlib import import_module

from taskdiv_assets.graph.registry import Registry

FILES = (
    "raw_pool",
    "annotations",
    "held_out_items",
    "contamination",
    "base_model",
    "prompt_embeddings",
    "template_embeddings",
    "sentence_embeddings",
    "task_labels",
    "confidence_table",
    "task_confidence",
    "confidence_comparison",
    "confidence_accuracy",
    "base_scores",
    "tuning_choice",
    "round_confidence",
    "ranking",
    "allocation",
    "annotation_batch",
    "adapter",
    "benchmark_scores",
    "strategy_report",
)
REGISTRY = Registry([import_module(f"{__name__}.{file}").ASSET for file in FILES])
