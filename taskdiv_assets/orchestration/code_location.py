"""Dagster definitions of one experiment, without reading any other.

The worker processes of `taskdiv run` load their own experiment here; what Dagster loads for the UI, with a group for every
experiment and for every broken file, is in `definitions`.
"""

from __future__ import annotations

import warnings

import dagster as dg

from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.orchestration import engines, factory
from taskdiv_assets.storage.store import Store

# Partition-aware asset checks are what keeps a cell's verdict with its cell; Dagster marks them as a preview, and would
# say so for every one of some hundred checks when they are built.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def load_one(name: str, source: str) -> dg.Definitions:
    """Return the definitions of one experiment.

    Args:
        name: that its file has to have.
        source: what `experiment_file.read_text` takes.

    Raises:
        ExperimentError: its file has mistakes, or names another experiment. Dagster raises what it does not take.
    """
    text, origin = experiment_file.read_text(source)
    experiment = experiment_file.parse(text, origin)
    if experiment.name != name:
        raise experiment_file.ExperimentError(
            f"{origin} names itself {experiment.name!r}, and lies in the folder of {name!r}; rename one of them"
        )
    return factory.build(experiment, text)


def load_with_executor(name: str) -> dg.Definitions:
    """Return the definitions of a built-in or stored experiment, with the executor that `$TASKDIV_EXECUTOR` names.

    Raises:
        ValueError: mistakes in the file, or an unknown executor.
    """
    source = name if name in experiment_file.built_in_names() else Store(name).locate("experiment.yaml")
    return dg.Definitions.merge(dg.Definitions(executor=engines.executor()), load_one(name, source))
