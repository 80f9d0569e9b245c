"""What Dagster loads: one asset group per experiment, the built-in ones and those in `$TASKDIV_HOME`."""

from __future__ import annotations

import os
import warnings

import dagster as dg

from taskdiv_assets import experiment_file, instance
from taskdiv_assets.assets import broken, factory
from taskdiv_assets.store import home

# Partition-aware asset checks are what keeps a cell's verdict with its cell; Dagster marks them as a preview, and would
# say so for every one of some hundred checks when they are built, below.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

LOGGER = dg.get_dagster_logger("taskdiv")


def build(names: list[str] | None = None) -> dg.Definitions:
    """Definitions of all experiments, or of some.

    A file that cannot be used takes only its own group away, and leaves one asset there that says why.
    """
    sources = experiment_file.sources(home())
    wanted = {name: source for name, source in sources.items() if names is None or name in names}
    # The steps of a run share its process: one a step would import torch and its friends anew, 25 s for a cell's four.
    executor = dg.Definitions(executor=dg.in_process_executor)
    return dg.Definitions.merge(executor, *(build_one(name, source) for name, source in wanted.items()))


def build_one(name: str, source: str) -> dg.Definitions:
    """Definitions of one experiment, whatever is in its file."""
    try:
        text, origin = experiment_file.read_text(source)
        experiment = experiment_file.parse(text, origin)
        if experiment.name != name:
            raise experiment_file.ExperimentError(
                f"{origin} names itself {experiment.name!r}, and lies in the folder of {name!r}; rename one of them"
            )
        return factory.build(experiment, text)
    except Exception as error:  # a mistake in one file, or in what reads it, must not disable the others
        problem = (
            str(error) if isinstance(error, experiment_file.ExperimentError) else f"{type(error).__name__}: {error}"
        )
        LOGGER.warning(f"experiment {name} is not loaded: {problem}")
        return broken.build(name, source, problem)


if not os.environ.get("TASKDIV_QUIET"):
    for sentence in instance.warnings():
        LOGGER.warning(sentence)

defs = build()
