"""What Dagster loads: one asset group per experiment, the built-in ones and those in `$TASKDIV_HOME`."""

from __future__ import annotations

import os
import warnings

import dagster as dg
import fsspec

from taskdiv_assets import experiment_file
from taskdiv_assets.assets import factory
from taskdiv_assets.store import home

# Partition-aware asset checks are what keeps a cell's verdict with its cell; Dagster marks them as a preview, and would
# say so for every one of some hundred checks when they are built, below.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

LOGGER = dg.get_dagster_logger("taskdiv")


def sources() -> dict[str, str]:
    """Experiments to load: name → what `experiment.load` takes. A user's file never replaces a built-in one."""
    found = {name: name for name in experiment_file.built_in_names()}
    fs, path = fsspec.core.url_to_fs(home())
    for file in fs.glob(f"{path}/*/experiment.yaml"):
        name = str(file).rsplit("/", 2)[-2]
        found.setdefault(name, fs.unstrip_protocol(file) if "://" in home() else str(file))
    return found


def build(names: list[str] | None = None) -> dg.Definitions:
    """Definitions of all experiments, or of some; a broken file takes only its own group away, with a warning."""
    parts = []
    for name, source in sources().items():
        if names is not None and name not in names:
            continue
        try:
            text, origin = experiment_file.read_text(source)
            parts.append(factory.build(experiment_file.parse(text, origin), text))
        except experiment_file.ExperimentError as error:
            LOGGER.warning(f"experiment {name} is not loaded: {error}")
    return dg.Definitions.merge(*parts)


if not os.environ.get("DAGSTER_HOME") and not os.environ.get("TASKDIV_QUIET"):
    LOGGER.warning(
        "DAGSTER_HOME is not set: Dagster keeps its runs in a temporary folder that is thrown away. "
        "Use `make ui`, or export DAGSTER_HOME=$PWD/.taskdiv/dagster"
    )

defs = build()
