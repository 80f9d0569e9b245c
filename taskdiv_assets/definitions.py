"""What Dagster loads: one asset group per experiment, the demos and those in `$TASKDIV_HOME`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial

import dagster as dg

from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.orchestration import broken, engines, instance
from taskdiv_assets.orchestration.code_location import load_one
from taskdiv_assets.storage.store import home

LOGGER = dg.get_dagster_logger("taskdiv")
EXPERIMENTS = "TASKDIV_EXPERIMENTS"  # names of further built-in experiments, with commas between them
DEMOS = ("demo", "demo_quick")
STORE_GROUP = "results_folder"  # where a store that cannot be read is shown


def build(names: Iterable[str] | None = None) -> dg.Definitions:
    """Definitions of some experiments; of those that `shown` names, where none are named.

    A file that cannot be used takes only its own group away, and leaves one asset there that says why; so does a store that
    cannot be read, where the built-in experiments are still there.

    Raises:
        ValueError: `$TASKDIV_EXECUTOR` names no engine that is here.
    """
    parts = [dg.Definitions(executor=engines.executor())]
    built_in = {name: name for name in experiment_file.built_in_names()}
    stored: dict[str, str] = {}
    try:
        stored = experiment_file.stored(home())
    except Exception as error:  # whatever the library of that protocol raises
        problem = f"$TASKDIV_HOME, {home()}, cannot be read ({type(error).__name__}: {error})"
        warn(f"experiments of {problem}; `taskdiv doctor` says more")
        parts.append(broken.build(STORE_GROUP, lambda: experiment_file.stored(home()), problem))
    sources = {**stored, **built_in}
    chosen = dict.fromkeys(shown(stored) if names is None else names)
    parts += [build_one(name, sources[name]) for name in chosen if name in sources]
    for name in chosen if names is None else ():
        if name not in sources:
            problem = f"${EXPERIMENTS} names {name!r}; expected names out of {', '.join(sorted(sources))}"
            warn(problem)
            parts.append(broken.build(name, partial(experiment_file.load, name), problem))
    return dg.Definitions.merge(*parts)


def shown(stored: Iterable[str]) -> list[str]:
    """Return the names of the experiments that the UI shows: the demos, those in the store, and those of `$TASKDIV_EXPERIMENTS`.

    The larger built-in ones are there once they were run, or asked for.
    """
    asked = [name.strip() for name in os.environ.get(EXPERIMENTS, "").split(",")]
    return list(dict.fromkeys([*DEMOS, *sorted(stored), *filter(None, asked)]))


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
