"""From the text of an experiment file to an `Experiment`, or to one error that lists every mistake with its line.

In: the name of a built-in experiment, or the path of a YAML file (local or fsspec URL). What a section may hold is in
`experiment`; here is what only the file as a whole shows: keys given twice, sections that do not fit each other, paths.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import glob
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reports import plain_yaml
from reports.strategy_names import strategy_names
from taskdiv_assets.experiment import plugins
from taskdiv_assets.experiment.benchmark_settings import metrics_of
from taskdiv_assets.experiment.declaration import ADD_BASE_MODEL, Experiment
from taskdiv_assets.experiment.lab_operations import TASKS
from taskdiv_assets.experiment.mistakes import Problem, example, in_words
from taskdiv_assets.selection import STRATEGIES, Strategy
from taskdiv_assets.settings import NAME_PATTERN
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import home

BUILT_IN = Path(__file__).parent / "builtin"
# A copy of a user's file starts with this comment, so that its relative paths still mean what they meant.
ORIGIN = "# Read from: "
PATH_KEYS = ("path", "source", "folder", "scores", "order_from", "instruction_difficulty")
FILE_BYTES_MAX = 4 * plain_yaml.LENGTH_MAX  # a character takes up to 4 bytes
SHOWN_N = 50  # mistakes that are listed
STUDY_KEYS = ("base_model", "seeds", "tuning", "benchmarks", "primary")  # which a campaign may leave out


class ExperimentError(ValueError):
    """An experiment file that cannot be used: the message lists every mistake with its place."""


def load(source: str) -> Experiment:
    """Read an experiment by the name of a built-in one, or by the path of a YAML file (local or fsspec URL).

    Raises:
        ExperimentError: no such experiment, or mistakes in the file, all of them listed.
    """
    return parse(*read_text(source))


def read_text(source: str) -> tuple[str, str]:
    """Text of an experiment file, and the path that its relative paths are relative to."""
    built_in = BUILT_IN / f"{source}.yaml"
    if re.fullmatch(NAME_PATTERN, source) and built_in.is_file():
        return built_in.read_text(encoding="utf-8"), str(built_in)
    if not source.endswith((".yaml", ".yml")):
        raise ExperimentError(no_experiment(source, home()))
    try:
        fs, path = remote.filesystem(source)
        with remote.explained(source):
            _refuse_no_file(fs.info(path), source)
            return fs.cat_file(path).decode("utf-8"), source
    except FileNotFoundError:
        raise ExperimentError(f"there is no experiment file {source!r}; {_near_files(source)}") from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ExperimentError(
            f"there is no experiment file {source!r}; there is a link of this name in a circle"
        ) from None
    except UnicodeDecodeError:
        raise ExperimentError(f"experiment file {source!r} is not UTF-8 text; is it a YAML file?") from None


def _refuse_no_file(info: Mapping[str, Any], source: str) -> None:
    """Refuse a pipe, a folder or a file that cannot be an experiment, before it is read.

    Raises:
        ExperimentError: it is one of those.
    """
    if info.get("type", "file") != "file":
        raise ExperimentError(f"{source} is a folder, a pipe or a device; expected an experiment file")
    if (info.get("size") or 0) > FILE_BYTES_MAX:
        raise ExperimentError(f"{source} has {info['size']:,} bytes; expected at most {FILE_BYTES_MAX:,}")


def no_experiment(name: str, url: str) -> str:
    """Say that there is no experiment of a name: where it was looked for, what is there, and what was probably meant.

    Args:
        name: that was asked for.
        url: where results are kept.
    """
    known = sources(url)
    stored = sorted(set(known) - set(built_in_names()))
    parts = [
        f"there is no experiment {name!r} in {url}; stored there: {', '.join(stored) or 'none'}",
        f"built-in: {', '.join(built_in_names())}",
    ]
    files = [f"{name}{ending}" for ending in (".yaml", ".yml") if "/" not in name and Path(f"{name}{ending}").is_file()]
    near = difflib.get_close_matches(name, known, 2)
    if files:
        parts.append(f"the file {files[0]} is in this folder: `taskdiv run {files[0]}`")
    elif near:
        parts.append(f"did you mean {' or '.join(near)}?")
    else:
        parts.append(
            "or name the path of a YAML file that ends in .yaml; `taskdiv init FILE` writes one for your prompts"
        )
    return "; ".join(parts)


def _near_files(source: str) -> str:
    """Experiment files beside one that is not there, whose names are like its name."""
    path = Path(source)
    there = [] if "://" in source or not path.parent.is_dir() else [one.name for one in path.parent.glob("*.y*ml")]
    if path.name in there:
        return "there is a link of this name that leads to nothing"
    near = difflib.get_close_matches(path.name, there, 2, cutoff=0.7)
    return f"did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else "check the path"


def origin_of(text: str) -> str | None:
    """Path of the file that a stored copy was read from; None if the text is no such copy."""
    first_line = text.partition("\n")[0]
    return first_line.removeprefix(ORIGIN).strip() if first_line.startswith(ORIGIN) else None


def built_in_names() -> list[str]:
    """Names of the experiments that come with the package."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def stored(url: str) -> dict[str, str]:
    """Experiments in the store: name → what `read_text` takes. A built-in one is among them once it was run.

    Args:
        url: where results are kept, as `store.home()` says it: an absolute folder, or an fsspec URL.
    """
    fs, path = remote.filesystem(url)
    files = [str(file) for file in fs.glob(f"{glob.escape(path)}/*/experiment.yaml")]
    return {file.rsplit("/", 2)[-2]: str(fs.unstrip_protocol(file)) if "://" in url else file for file in files}


def sources(url: str) -> dict[str, str]:
    """Every experiment, built-in or stored: name → what `read_text` takes. A user's file never replaces a built-in one.

    Args:
        url: where results are kept, as `store.home()` says it: an absolute folder, or an fsspec URL.
    """
    return {**stored(url), **{name: name for name in built_in_names()}}


def parse(text: str, origin: str) -> Experiment:
    """Turn the text of an experiment file into an `Experiment`; `origin` is its path, for messages and relative paths."""
    base = origin_of(text) or origin
    try:
        raw, root, repeated = plain_yaml.read(text, origin)
    except plain_yaml.YamlError as error:
        raise ExperimentError(str(error)) from None
    if not isinstance(raw, dict):
        raise ExperimentError(f"{origin}: expected a mapping with `name:`, `pool:`, …, found {type(raw).__name__}")
    problems: list[Problem] = []
    experiment = None
    try:
        experiment = Experiment.model_validate(with_absolute_paths(raw, base))
    except ValidationError as error:
        placed_errors = ({**item, "loc": _own_order_place(item["loc"], raw)} for item in error.errors())
        problems += in_words(placed_errors, raw)
    problems += [Problem(place, "stands here twice; keep one of them") for place in repeated]
    problems += cross_field_problems(raw)
    if problems or experiment is None:
        placed = sorted(((_line(problem, root), problem) for problem in problems), key=lambda one: one[0])
        lines = [f"  {origin}:{line}: {problem.name}: {problem.message}" for line, problem in placed]
        left = f"\n  and {len(lines) - SHOWN_N:,} more" if len(lines) > SHOWN_N else ""
        raise ExperimentError(f"{origin} has {len(lines):,} mistake(s):\n" + "\n".join(lines[:SHOWN_N]) + left)
    return experiment


def _own_order_place(location: tuple[str | int, ...], raw: Mapping[str, Any]) -> tuple[str | int, ...]:
    """The place in the file: an order of the user's own is an entry of `strategies` there."""
    if location[:1] != ("own_orders",) or len(location) < 2 or "own_orders" in raw:
        return location
    own = [index for index, entry in enumerate(raw["strategies"]) if isinstance(entry, dict)]
    return ("strategies", own[int(location[1])], *location[2:])


def cross_field_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Mistakes that only two fields together show, found even while other fields are wrong."""
    strategies, primary = strategy_names(raw.get("strategies")), raw.get("primary")
    if "own_orders" in raw:
        yield Problem(location=("own_orders",), message="unknown key; orders of your own are entries of `strategies`")
    if isinstance(strategies, list) and isinstance(primary, dict):
        for role, name in (("strategy", primary.get("strategy")), ("reference", primary.get("reference", "random"))):
            if name is not None and name not in strategies:
                yield Problem(
                    location=("primary", role), message=f"{name!r} is not among the `strategies` of this file"
                )
        if primary.get("strategy") == primary.get("reference", "random"):
            yield Problem(location=("primary",), message="`strategy` and `reference` are the same")
    benchmarks = raw.get("benchmarks")
    if isinstance(benchmarks, list) and isinstance(primary, dict) and "benchmark" in primary:
        names = [item.get("name") for item in benchmarks if isinstance(item, dict)]
        if primary["benchmark"] not in names:
            yield Problem(
                location=("primary", "benchmark"), message=f"{primary['benchmark']!r} is not among the `benchmarks`"
            )
        twice = sorted(name for name, count in Counter(map(str, names)).items() if count > 1)
        if twice:
            yield Problem(location=("benchmarks",), message=f"benchmark {twice[0]!r} stands here twice")
        metrics = next((metrics_of(item) for item in benchmarks if _is_named(item, primary["benchmark"])), ())
        if metrics and primary.get("metric") not in (None, *metrics):
            found = f"expected {' or '.join(metrics)}, found {primary['metric']!r}"
            yield Problem(location=("primary", "metric"), message=found)
    if raw.get("name") == "dagster":
        yield Problem(location=("name",), message="'dagster' is the folder of Dagster's records; choose another name")
    pool, model = raw.get("pool"), raw.get("base_model")
    if isinstance(pool, dict) and pool.get("reader") == "lab" and isinstance(pool.get("tasks"), list):
        unknown = [name for name in pool["tasks"] if isinstance(name, str) and name not in TASKS]
        if unknown:
            message = f"unknown lab task {unknown[0]!r}; expected some of {', '.join(TASKS)}"
            yield Problem(location=("pool", "tasks"), message=message)
    reader = pool.get("reader") if isinstance(pool, dict) else None
    for location, source in _model_sources(raw):
        if source.get("lab") is not None and reader not in ("lab", None):
            message = "the lab's model knows the lab's vocabulary only; use `hub` or `path`"
            yield Problem(location=(*location, "lab"), message=message)
    if raw.get("chat_template") is True and isinstance(model, dict) and model.get("lab") is not None:
        yield Problem(location=("chat_template",), message="the lab's model has no chat template; remove the key")
    yield from _study_problems(raw)
    yield from _need_problems(raw)
    if raw.get("keep_annotated") is True and raw.get("purpose") == "study":
        message = "for campaigns only: in a study it would bend what the strategies chose; remove the key"
        yield Problem(location=("keep_annotated",), message=message)
    yield from _score_problems(raw)
    if isinstance(benchmarks, list) and benchmarks and all(_is_unjudged(item) for item in benchmarks):
        message = "nothing would be scored, since `alpaca_eval` has no `judge`; name one, or another benchmark"
        yield Problem(location=("benchmarks",), message=message)
    if isinstance(benchmarks, list) and reader not in ("lab", None):
        for index, item in enumerate(benchmarks):
            if isinstance(item, dict) and item.get("name") == "lab":
                yield Problem(location=("benchmarks", index), message="benchmark `lab` needs `pool: {reader: lab}`")


def _study_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """What a study has to name itself, and a campaign has a default for."""
    if raw.get("purpose") == "study":
        for key in STUDY_KEYS:
            if key not in raw or raw[key] in (None, []):
                yield Problem(
                    (key,), f"is missing: a study names it, so that its result can be repeated; add {example(key)}"
                )


def _need_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Strategies and benchmarks that need a section which the file does not have."""
    strategies, pool, labels = raw.get("strategies"), raw.get("pool"), raw.get("task_labels")
    given = [name for name in strategies if isinstance(name, str)] if isinstance(strategies, list) else []
    known = _known_strategies(given)
    if raw.get("base_model") is None and raw.get("purpose") != "study":
        reading = [strategy.name for strategy in known if strategy.reads_model]
        if reading:
            free = [name for name, strategy in STRATEGIES.items() if not strategy.reads_model]
            message = f"{_listed(reading)} the base model; {ADD_BASE_MODEL}, or use {', '.join(free)}"
            yield Problem(("strategies",), message)
        if raw.get("benchmarks"):
            yield Problem(("benchmarks",), f"benchmarks score a tuned base model; {ADD_BASE_MODEL}, or remove the key")
    is_mapped = isinstance(labels, dict) and labels.get("from") == "mapping"
    if not isinstance(pool, dict) or pool.get("reader") != "table" or is_mapped:
        return
    columns = pool.get("columns")
    by_task = [strategy.name for strategy in known if strategy.reads_tasks]
    if by_task and isinstance(columns, dict) and columns.get("task") is None:
        free = [name for name, strategy in STRATEGIES.items() if not strategy.reads_tasks]
        message = (
            f"{_listed(by_task)} the task of each prompt, and this file names none; add `task: COLUMN` to `pool.columns`, or "
            f"`task_labels: {{from: mapping, path: FILE}}`, or use strategies that read no task: {', '.join(free)}"
        )
        yield Problem(("strategies",), message)


def _known_strategies(names: Sequence[str]) -> list[Strategy]:
    """Return built-in strategies and plug-ins, without names that are unknown or cannot be used."""
    known = []
    for name in dict.fromkeys(names):
        with contextlib.suppress(ValueError):  # reported where names are checked
            known.append(STRATEGIES[name] if name in STRATEGIES else plugins.load(name))
    return known


def _listed(names: Sequence[str]) -> str:
    """Names as the subject of "read", in the right number."""
    return f"{', '.join(names)} read{'s' if len(names) == 1 else ''}"


def _is_named(section: object, name: object) -> bool:
    return isinstance(section, dict) and section.get("name") == name


def _is_unjudged(section: object) -> bool:
    return _is_named(section, "alpaca_eval") and isinstance(section, dict) and section.get("judge") is None


def _model_sources(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Every place of a file that names a model, with what stands there."""
    confidence = raw.get("confidence")
    confidence = confidence if isinstance(confidence, dict) else {}
    found: list[tuple[tuple[str | int, ...], object]] = [
        (("base_model",), raw.get("base_model")),
        (("confidence", "model"), confidence.get("model")),
    ]
    alternatives = confidence.get("alternatives")
    for index, entry in enumerate(alternatives if isinstance(alternatives, list) else []):
        if isinstance(entry, dict):
            found.append((("confidence", "alternatives", index, "model"), entry.get("model")))
    yield from ((location, source) for location, source in found if isinstance(source, dict))


def _score_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Strategies that need what the settings of confidence do not give."""
    strategies, confidence = raw.get("strategies"), raw.get("confidence")
    names = [name for name in strategies if isinstance(name, str)] if isinstance(strategies, list) else []
    by_score = [strategy.name for strategy in _known_strategies(names) if "scores" in strategy.needs]
    if by_score and raw.get("confidence_sample") is not None:
        message = f"{', '.join(by_score)} needs a score of every prompt: remove the strategy, or `confidence_sample`"
        yield Problem(location=("confidence_sample",), message=message)
    if by_score and isinstance(confidence, dict) and confidence.get("of") == "prompt":
        message = f"{', '.join(by_score)} goes by the continuation: remove the strategy, or use `of: continuation`"
        yield Problem(location=("confidence", "of"), message=message)


def with_absolute_paths(raw: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The raw file with its paths (`path`, `source`, `folder`, …) made relative to its own folder, not to the caller's."""
    folder = base.rpartition("/")[0] if "://" in base else str(Path(base).resolve().parent)

    def absolute(path: object) -> object:
        if isinstance(path, list):
            return [absolute(part) for part in path]
        if not isinstance(path, str) or "://" in path or path.startswith("/") or path == "hub":
            return path
        if path.startswith("~"):
            return str(Path(path).expanduser())
        return remote.joined(folder, path) if "://" in folder else f"{folder}/{path}"

    def walk(node: object, key: str) -> object:
        if isinstance(node, dict):
            return {name: walk(value, str(name)) for name, value in node.items()}
        if isinstance(node, list) and key in ("benchmarks", "alternatives", "strategies"):
            return [walk(value, "") for value in node]
        return absolute(node) if key in PATH_KEYS else node

    result = walk(raw, "")
    assert isinstance(result, dict)
    return result


def _line(problem: Problem, root: yaml.Node | None) -> int:
    """Line of a problem, walking the YAML nodes as far as the location exists in the file."""
    node, line = root, 1
    for part in problem.location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                continue  # the tag of a union, or a key that is missing: stay at its parent
            key, node = found[-1]  # the first ones of several are those of a merged section
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
