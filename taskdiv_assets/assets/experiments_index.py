"""The table `experiments_index`: all experiments of a home, a row each, and their page.

It is the only asset that does not belong to an experiment. So it is not in the registry, and `orchestration.index_asset`
publishes it. Its store is a folder of the home whose name cannot be the name of an experiment.
"""

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

import data_contracts
from reports.together import summary as summaries_of
from reports.together.index_page import index_table
from reports.together.summary import Summary
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.identity import identity
from taskdiv_assets.storage.store import Store

NAME = "experiments_index"
FOLDER = "experiments-index"  # an experiment's name has no hyphen
CODE_VERSION = 1
DESCRIPTION = (
    "All experiments of this home, a row each: the primary comparison, the labels saved, the price, and whether the report "
    "is up to date. It reads stored reports and computes nothing again. A row also says why an experiment cannot be used."
)
REPORT = Unit("strategy_report")
ABSOLUTE = re.compile(
    r"(?<![\w:/.])(?:file://)?/(?:[^\s'\"`,;:/()]+/)+(?=[^\s'\"`,;:/()])"
)  # folders of an absolute local path


def summaries_in(url: str) -> list[Summary]:
    """Return the row of each stored experiment of a home, and of each built-in experiment that has results, sorted by name."""
    built_in = experiment_file.built_in_names()
    sources = sorted(experiment_file.sources(url).items())
    return [
        summary_of(name, opened(source), url)
        for name, source in sources
        if name not in built_in or Store(name, url).names()
    ]


def opened(source: str) -> Experiment | Exception:
    """Return an experiment, or the error of reading its file. `source` is an argument of `experiment_file.load`."""
    try:
        return experiment_file.load(source)
    except Exception as error:  # one experiment, or its storage, must not disable the others
        return error


def summary_of(name: str, experiment: Experiment | Exception, url: str) -> Summary:
    """Return the row of an experiment, or of one that could not be opened. Any error becomes a row that says what is wrong."""
    found = _summary_of(name, experiment, url)
    return found._replace(problems=tuple(without_folders(text, url) for text in found.problems))


def without_folders(text: str, url: str) -> str:
    """Return a sentence for a page that others read: paths are relative to the home, and other local paths are file names.

    >>> without_folders("/home/a/tables/x.yaml:2 is wrong; there is no y in /home/a; see /data/z.csv", "/home/a")
    'tables/x.yaml:2 is wrong; there is no y in the home; see z.csv'
    """
    own = re.sub(rf"{re.escape(url.rstrip('/'))}(/?)(?![\w-])", "the home", text.replace(f"{url.rstrip('/')}/", ""))
    return ABSOLUTE.sub("", own)


def _summary_of(name: str, experiment: Experiment | Exception, url: str) -> Summary:
    found = Summary(name)
    try:
        if isinstance(experiment, Exception):
            raise experiment
        if experiment.name != name:
            raise ValueError(f"the file in the folder {name} names itself {experiment.name!r}; rename one of them")
        store = Store(name, url)
        if store.get("experiment.yaml") is None:
            return found
        found = summaries_of.read_summary(name, store.url)
        return with_state(found, REGISTRY.look(experiment, store))
    except Exception as error:  # as in `opened`
        sentence = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        is_unknown = isinstance(error, experiment_file.UnknownExperimentError)
        state = summaries_of.NOT_FOUND if is_unknown else summaries_of.BROKEN
        return found._replace(state=state, problems=(sentence or type(error).__name__,))


def with_state(found: Summary, lineage: Lineage) -> Summary:
    """Add the state of the stored report, and the problems of the report and of its tables."""
    state, said = lineage.state(REPORT), dict.fromkeys(problems(lineage))
    if not found.identity or state.status == "fresh":
        return found._replace(problems=tuple(said))
    return found._replace(state=summaries_of.OUT_OF_DATE, problems=(state.reason, *said))


def problems(lineage: Lineage) -> Iterator[str]:
    """Yield a sentence for each stored table that is out of date, damaged or rejected, and one on the contracts' warnings."""
    yield from lineage.stale_units().values()
    yield from lineage.problems.values()
    for name, note in lineage.store.rejections():
        broken = ", ".join(str(rule.get("rule")) for rule in note.get("rules") or () if isinstance(rule, dict))
        yield f"{name.removeprefix('tables/').removesuffix('.rejected.json')} was rejected: it breaks {broken or 'a rule'}"
    units = lineage.registry.units(lineage.experiment, lineage.store, lineage.pool_size)
    footers = [footer for unit in units if (footer := lineage.footer(unit)) is not None]
    warnings_n = sum(rule.severity == "warning" and not rule.passed for footer in footers for rule in footer.rules)
    if warnings_n:
        yield f"{warnings_n:,} {'warning' if warnings_n == 1 else 'warnings'} of data contracts; the report lists them"


def as_table(summaries: Sequence[Summary]) -> pa.Table:
    return index_table(summaries, data_contracts.load(NAME).arrow_schema)


def identity_of(table: pa.Table, inputs: dict[str, str]) -> str:
    """Return the identity of an index: a hash of its rows and of the reports that it read."""
    rows = [{name: None if value is None else str(value) for name, value in row.items()} for row in table.to_pylist()]
    return identity(NAME, CODE_VERSION, {"rows": rows}, inputs)
