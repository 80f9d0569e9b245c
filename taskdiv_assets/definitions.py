"""What Dagster loads: one asset group per experiment, the built-in ones and those in `$TASKDIV_HOME`."""

from __future__ import annotations

import os

import dagster as dg

from taskdiv_assets import engines, experiment_file, instance
from taskdiv_assets.assets import broken
from taskdiv_assets.assets.loading import load_one
from taskdiv_assets.store import home

LOGGER = dg.get_dagster_logger("taskdiv")
STORE_GROUP = "results_folder"  # where a store that cannot be read is shown


def build(names: list[str] | None = None) -> dg.Definitions:
    """Definitions of all experiments, or of some.

    A file that cannot be used takes only its own group away, and leaves one asset there that says why; so does a store that
    cannot be read, where the built-in experiments are still there.

    Raises:
        ValueError: `$TASKDIV_EXECUTOR` names no engine that is here.
    """
    parts = [dg.Definitions(executor=engines.executor())]
    try:
        sources = experiment_file.sources(home())
    except Exception as error:  # whatever the library of that protocol raises
        problem = f"$TASKDIV_HOME, {home()}, cannot be read ({type(error).__name__}: {error})"
        warn(f"experiments of {problem}; `taskdiv doctor` says more")
        parts.append(broken.build(STORE_GROUP, lambda: experiment_file.sources(home()), problem))
        sources = {name: name for name in experiment_file.built_in_names()}
    parts += [build_one(name, source) for name, source in sources.items() if names is None or name in names]
    return dg.Definitions.merge(*parts)


def build_one(name: str, source: str) -> dg.Definitions:
    """Definitions of one experiment, whatever is in its file."""
    try:
        return load_one(name, source)
    except Exception as error:  # a mistake in one file, or in what reads it, must not disable the others
        is_said = isinstance(error, experiment_file.ExperimentError)
        problem = str(error) if is_said else f"{type(error).__name__}: {error}"
        warn(f"experiment {name} is not loaded: {problem}")
        return broken.build(name, lambda: load_one(name, source), problem)


def warn(sentence: str) -> None:
    """Log a warning; `taskdiv` commands are about one experiment, and `taskdiv experiments list` names those that are broken."""
    if not os.environ.get("TASKDIV_QUIET"):
        LOGGER.warning(sentence)


for sentence in instance.warnings():
    warn(sentence)

defs = build()
