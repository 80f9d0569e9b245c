"""Dagster definitions of one experiment (`load_with_executor`, `job_of`), or of all experiments that the UI shows (`build`).

`taskdiv run` and the processes of steps load one experiment. The UI loads `taskdiv_assets.definitions`, which calls `build`.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable
from functools import cache, partial

import dagster as dg

from data_contracts.variant_names import split_name
from taskdiv_assets.assets.experiments_index import REPORT
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.orchestration import engines, factory, index_asset
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.storage.store import Store, home

LOGGER = dg.get_dagster_logger("taskdiv")
DEMOS = ("demo", "demo_quick")
STORE_GROUP = "results_folder"  # group of the asset that shows the error of an unreadable store

ERROR_ASSET = "experiment_file"
RELOAD = "reload the definitions (Deployment → Code locations → Reload)"
ADVICE = f"Repair it, then {RELOAD}."

# Asset checks with partitions are a preview feature of Dagster. Dagster would log a warning for each of about a hundred checks.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def load_one(name: str, source: str) -> dg.Definitions:
    """Return the definitions of the experiment in `source`, a built-in name or a path.

    For errors of reading the file, see `experiment_file.read_text`.

    Raises:
        ExperimentError: the file has mistakes, or the name in the file is not `name`.
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
    """Return the definitions of a built-in or stored experiment and its variants, with the executor of `$TASKDIV_EXECUTOR`.

    The name of a variant gives the same definitions. For errors, see `load_one`.
    """
    experiment, variant = split_name(name)
    if variant:
        return load_with_executor(experiment)
    source = name if name in experiment_file.built_in_names() else Store(name).locate("experiment.yaml")
    return dg.Definitions.merge(dg.Definitions(executor=engines.executor()), load_one(name, source))


def job_of(experiment: str, name: str) -> dg.JobDefinition:
    """Return a job of an experiment. Dagster calls this function in the process of a step, to find the asset of the step."""
    return load_with_executor(experiment).resolve_job_def(name)


def build(names: Iterable[str] | None = None) -> dg.Definitions:
    """Return the definitions of the experiments `names`, by default of the experiments that `shown` returns.

    Without `names`, the index of all experiments is added. An experiment that cannot be loaded, or an unknown name in
    `$TASKDIV_EXPERIMENTS`, gets one asset with the error message.
    Unknown names in `names` are ignored. If the store cannot be read, one more asset shows the error, and the built-in
    experiments are still loaded.
    """
    parts = [dg.Definitions(executor=engines.executor("taskdiv_assets.definitions"))]
    built_in = {name: name for name in experiment_file.built_in_names()}
    stored: dict[str, str] = {}
    try:
        stored = experiment_file.stored(home())
    except Exception as error:  # a storage library may raise any exception
        problem = f"$TASKDIV_HOME, {home()}, cannot be read ({type(error).__name__}: {error})"
        warn(f"experiments of {problem}; `taskdiv doctor` says more")
        parts.append(error_asset(STORE_GROUP, lambda: experiment_file.stored(home()), problem))
    sources = {**stored, **built_in}
    chosen = dict.fromkeys(shown(stored) if names is None else names)
    built = {name: build_one(name, sources[name]) for name in chosen if name in sources}
    parts += built.values()
    if names is None:
        parts.append(index_asset.build(name for name, part in built.items() if has_report(name, part)))
    for name in chosen if names is None else ():
        if name not in sources:
            problem = f"$TASKDIV_EXPERIMENTS names {name!r}; expected names out of {', '.join(sorted(sources))}"
            warn(problem)
            parts.append(error_asset(name, partial(experiment_file.load, name), problem))
    return dg.Definitions.merge(*parts)


def has_report(name: str, part: dg.Definitions) -> bool:
    """Return True if the definitions of an experiment contain its report. Those of a broken experiment contain an error only."""
    key = dg.AssetKey([name, REPORT.asset])
    return any(key in asset.keys for asset in part.assets or () if isinstance(asset, dg.AssetsDefinition))


def shown(stored: Iterable[str]) -> list[str]:
    """Return the names of the experiments that the UI shows: the demos, the stored ones, and those in `$TASKDIV_EXPERIMENTS`."""
    asked = [name.strip() for name in machine().experiments.split(",")]
    return list(dict.fromkeys([*DEMOS, *sorted(stored), *filter(None, asked)]))


def build_one(name: str, source: str) -> dg.Definitions:
    """Return the definitions of one experiment. If it cannot be loaded, they contain only an asset that shows the error."""
    try:
        return load_one(name, source)
    except Exception as error:  # a mistake in one file, or in its reader, must not disable the other experiments
        is_said = isinstance(error, experiment_file.ExperimentError)
        problem = str(error) if is_said else f"{type(error).__name__}: {error}"
        warn(f"experiment {name} is not loaded: {problem}")
        return error_asset(name, lambda: load_one(name, source), problem)


def warn(sentence: str) -> None:
    """Log a warning, unless `$TASKDIV_QUIET` is set. `taskdiv run` and other commands set it; `taskdiv ui` does not."""
    if not machine().quiet:
        LOGGER.warning(sentence)


def error_asset(name: str, load: Callable[[], object], problem: str) -> dg.Definitions:
    """Return definitions with one asset, in a separate group. The asset's description contains the error message `problem`.

    When a user materialises the asset, `load` (the function that failed) is called again.
    """
    group = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if group != name:  # the hash keeps two names apart that would become the same group name
        group += f"_{hashlib.sha256(name.encode()).hexdigest()[:6]}"

    @dg.asset(
        key=dg.AssetKey([group, ERROR_ASSET]),
        group_name=group,
        description=f"**This experiment is not loaded.** {ADVICE}\n\n```\n{problem.replace('```', '')}\n```",
        kinds={"yaml"},
        tags={"broken": ""},
    )
    def report_problem() -> dg.MaterializeResult[None]:
        try:
            load()
        except Exception as error:  # any error becomes the message of the failed step
            raise dg.Failure(description=f"{error}\n{ADVICE}", allow_retries=False) from error
        return dg.MaterializeResult(metadata={"what to do": f"The file can be used now: {RELOAD}."})

    return dg.Definitions(assets=[report_problem])
