"""The settings of an experiment, the file that holds them, and the experiments that come with the package."""

from taskdiv_assets.experiment.declaration import (
    ADD_BASE_MODEL,
    BUDGET_PATTERN,
    CHOSEN_SOURCE,
    DEFAULT_GREEDY_DEPTH,
    OWNER_PATTERN,
    Alternative,
    Annotation,
    BaseModelSource,
    ConfidenceSource,
    Embeddings,
    Experiment,
    FacilityLocation,
    LabModel,
    Sampling,
    parse_budget,
)
from taskdiv_assets.experiment.pool_settings import Pool

__all__ = [
    "ADD_BASE_MODEL",
    "BUDGET_PATTERN",
    "CHOSEN_SOURCE",
    "DEFAULT_GREEDY_DEPTH",
    "OWNER_PATTERN",
    "Alternative",
    "Annotation",
    "BaseModelSource",
    "ConfidenceSource",
    "Embeddings",
    "Experiment",
    "FacilityLocation",
    "LabModel",
    "Pool",
    "Sampling",
    "parse_budget",
]
