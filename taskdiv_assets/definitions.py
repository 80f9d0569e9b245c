"""What Dagster loads: one asset group per experiment, the built-in ones and those in `$TASKDIV_HOME`."""

from __future__ import annotations

import os
import warnings

import dagster as dg
import fsspec

from taskdiv_assets import experiment_file, instance
from taskdiv_assets.assets import broken, factory
from taskdiv_assets.store import home

# Partition-aware asset checks are what keeps a cell's verdict with its cell; Dagster marks them as a preview, and would
# say so for every one of some hundred checks when they are built, below.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

LOGGER = dg.get_dagster_logger("taskdiv")


def sources() -> dict[str, str]:
    """Experiments to load: name → what `experiment_file.read_text` takes. A user's file never replaces a built-in one."""
    found = {name: name for name in experiment_file.built_in_names()}
    fs, path = fsspec.core.url_to_fs(home())
    for file in fs.glob(f"{path}/*/experiment.yaml"):
        name = str(file).rsplit("/", 2)[-2]
        found.setdefault(name, fs.unstrip_protocol(file) if "://" in home() else str(file))
    return found


def build(names: list[str] | None = None) -> dg.Definitions:
    """Definitions of all experiments, or of some.

    A file that cannot be used takes only its own group away, and leaves one asset there that says why.
    """
    wanted = {name: source for name, source in sources().items() if names is None or name in names}
    return dg.Definitions.merge(*(build_one(name, source) for name, source in wanted.items()))


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
