"""Dagster definitions of experiments: of all that the UI shows, or of a single one.

The worker processes of `taskdiv run`, and the processes of their steps, load their own experiment only (`load_with_executor`,
`job_of`). The UI loads `taskdiv_assets.definitions`, which calls `build`: one group for every experiment, and one asset with the
error for every file that cannot be used.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cache, partial

import dagster as dg

from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.orchestration import broken, engines, factory
from taskdiv_assets.settings import machine
from taskdiv_assets.storage.store import Store, home

LOGGER = dg.get_dagster_logger("taskdiv")
DEMOS = ("demo", "demo_quick")
STORE_GROUP = "results_folder"  # shows a store that cannot be read

# Partition-aware asset checks keep a cell's verdict with its cell. Dagster marks them as a preview, and would warn about each of
# some hundred checks.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def load_one(name: str, source: str) -> dg.Definitions:
    """Return the definitions of one experiment.

    Args:
        name: that its file must have.
        source: as `experiment_file.read_text` takes it.

    Raises:
        ExperimentError: its file has mistakes, or names another experiment. Dagster raises its own errors.
    """
    text, origin = experiment_file.read_text(source)
    experiment = experiment_file.parse(text, origin)
    if experiment.name != name:
        raise experiment_file.ExperimentError(
            f"{origin} names itself {experiment.name!r}, and lies in the folder of {name!r}; rename one of them"
        )
    return factory.build(experiment, text)


@cache
def load_with_executor(name: str) -> dg.Definitions:
    """Return the definitions of a built-in or stored experiment, with the executor that `$TASKDIV_EXECUTOR` names.

    Raises:
        ValueError: the file has mistakes, or the executor is unknown.
    """
    source = name if name in experiment_file.built_in_names() else Store(name).locate("experiment.yaml")
    return dg.Definitions.merge(dg.Definitions(executor=engines.executor()), load_one(name, source))


def job_of(experiment: str, name: str) -> dg.JobDefinition:
    """Return a job of an experiment. A process that executes one step finds its asset by a call of this function."""
    return load_with_executor(experiment).resolve_job_def(name)


def build(names: Iterable[str] | None = None) -> dg.Definitions:
    """Return the definitions of the named experiments, or of those that `shown` returns.

    A file that cannot be used removes only its own group, and leaves one asset there that shows the error. The same is true of a
    store that cannot be read: the built-in experiments are still loaded.

    Raises:
        ValueError: `$TASKDIV_EXECUTOR` names no engine that is installed.
    """
    parts = [dg.Definitions(executor=engines.executor("taskdiv_assets.definitions"))]
    built_in = {name: name for name in experiment_file.built_in_names()}
    stored: dict[str, str] = {}
    try:
        stored = experiment_file.stored(home())
    except Exception as error:  # the library of that protocol may raise anything
        problem = f"$TASKDIV_HOME, {home()}, cannot be read ({type(error).__name__}: {error})"
        warn(f"experiments of {problem}; `taskdiv doctor` says more")
        parts.append(broken.build(STORE_GROUP, lambda: experiment_file.stored(home()), problem))
    sources = {**stored, **built_in}
    chosen = dict.fromkeys(shown(stored) if names is None else names)
    parts += [build_one(name, sources[name]) for name in chosen if name in sources]
    for name in chosen if names is None else ():
        if name not in sources:
            problem = f"$TASKDIV_EXPERIMENTS names {name!r}; expected names out of {', '.join(sorted(sources))}"
            warn(problem)
            parts.append(broken.build(name, partial(experiment_file.load, name), problem))
    return dg.Definitions.merge(*parts)


def shown(stored: Iterable[str]) -> list[str]:
    """Return the names of the experiments that the UI shows: the demos, those in the store, and those of `$TASKDIV_EXPERIMENTS`.

    A larger built-in experiment is in the store after its first run.
    """
    asked = [name.strip() for name in machine().experiments.split(",")]
    return list(dict.fromkeys([*DEMOS, *sorted(stored), *filter(None, asked)]))


def build_one(name: str, source: str) -> dg.Definitions:
    """Return the definitions of one experiment, or one asset that shows why it cannot be loaded."""
    try:
        return load_one(name, source)
    except Exception as error:  # a mistake in one file, or in its reader, must not disable the other experiments
        is_said = isinstance(error, experiment_file.ExperimentError)
        problem = str(error) if is_said else f"{type(error).__name__}: {error}"
        warn(f"experiment {name} is not loaded: {problem}")
        return broken.build(name, lambda: load_one(name, source), problem)


def warn(sentence: str) -> None:
    """Log a warning, except for `taskdiv` commands: they deal with one experiment, and `taskdiv experiments list` shows all."""
    if not machine().quiet:
        LOGGER.warning(sentence)
