"""The settings of an experiment, the reader of experiment files, and the built-in experiments."""

from taskdiv_assets.experiment.declaration import (
    ADD_BASE_MODEL,
    CHOSEN_SOURCE,
    DEFAULT_GREEDY_DEPTH,
    BaseModelSource,
    ConfidenceSource,
    Experiment,
    LabModel,
    Sampling,
    parse_budget,
)
from taskdiv_assets.experiment.pool_settings import Pool

__all__ = [
    "ADD_BASE_MODEL",
    "CHOSEN_SOURCE",
    "DEFAULT_GREEDY_DEPTH",
    "BaseModelSource",
    "ConfidenceSource",
    "Experiment",
    "LabModel",
    "Pool",
    "Sampling",
    "parse_budget",
]
