"""Reader of experiment files. It returns an `Experiment`, or raises one error that lists up to 50 mistakes with their lines.

An experiment is given by the name of a built-in experiment or by the path of a YAML file (local or fsspec URL). `declaration`
checks each section. This module checks the whole file, for example for repeated keys and for sections that contradict each other.
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

from data_contracts import plain_yaml
from data_contracts.experiment_fields import NAME_PATTERN, strategy_names
from taskdiv_assets.experiment import plugins, variants
from taskdiv_assets.experiment.benchmark_settings import metrics_of
from taskdiv_assets.experiment.declaration import ADD_BASE_MODEL, Experiment
from taskdiv_assets.experiment.lab_operations import TASKS
from taskdiv_assets.experiment.mistakes import Problem, example, in_words
from taskdiv_assets.experiment.recorded_rounds import round_problems
from taskdiv_assets.experiment.view_settings import OF_BASE_MODEL
from taskdiv_assets.selection import STRATEGIES, Strategy
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import home

BUILT_IN = Path(__file__).parent / "builtin"
# Start of the first line of a stored copy of a user's file. Relative paths refer to the folder of the original file.
ORIGIN = "# Read from: "
PATH_KEYS = ("path", "file", "source", "folder", "scores", "order_from", "instruction_difficulty")
FILE_BYTES_MAX = 4 * plain_yaml.LENGTH_MAX  # a character has at most 4 bytes
SHOWN_N = 50  # largest number of mistakes in one error
STUDY_KEYS = ("base_model", "seeds", "tuning", "benchmarks", "primary")  # required in a study, optional in a campaign


class ExperimentError(ValueError):
    """Error for an experiment file that cannot be used. The message gives the reason, or lists the mistakes with their lines."""


class UnknownExperimentError(ExperimentError):
    """Error for a name that no stored or built-in experiment has."""


def load(source: str) -> Experiment:
    """Read a built-in experiment by its name, or an experiment file by its path (for errors, see `read_text` and `parse`)."""
    return parse(*read_text(source))


def read_text(source: str) -> tuple[str, str]:
    """Return the text and the path of an experiment file. `source` is the name of a built-in experiment, a path or a URL.

    Raises:
        ExperimentError: the file is missing, is a folder, is too large or is not UTF-8 text.
        ValueError: the protocol of the URL is unknown, or its package is not installed.
        OSError: access is denied, or the network fails.
    """
    built_in = BUILT_IN / f"{source}.yaml"
    if re.fullmatch(NAME_PATTERN, source) and built_in.is_file():
        return built_in.read_text(encoding="utf-8"), str(built_in)
    if not source.endswith((".yaml", ".yml")):
        raise UnknownExperimentError(no_experiment(source, home()))
    try:
        fs, path = remote.filesystem(source)
        with remote.explained(source):
            info = fs.info(path)
            if info.get("type", "file") != "file":
                raise ExperimentError(f"{source} is a folder, a pipe or a device; expected an experiment file")
            if (info.get("size") or 0) > FILE_BYTES_MAX:
                raise ExperimentError(f"{source} has {info['size']:,} bytes; expected at most {FILE_BYTES_MAX:,}")
            return fs.cat_file(path).decode("utf-8"), source
    except FileNotFoundError:
        raise ExperimentError(f"there is no experiment file {source!r}; {_near_files(source)}") from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ExperimentError(f"there is no experiment file {source!r}; a link of this name is circular") from None
    except UnicodeDecodeError:
        raise ExperimentError(f"experiment file {source!r} is not UTF-8 text; is it a YAML file?") from None


def no_experiment(name: str, url: str) -> str:
    """Return the error message for an unknown experiment `name`, with the known names (`sources` of `url`) and a suggestion."""
    there = stored(url)
    known = {*there, *built_in_names()}
    found = f"there is no experiment {name!r} in {url}; stored there: {', '.join(sorted(there)) or 'none'}"
    files = [f"{name}{ending}" for ending in (".yaml", ".yml") if "/" not in name and Path(f"{name}{ending}").is_file()]
    near = difflib.get_close_matches(name, known, 2)
    advice = "or give the path of a file that ends in .yaml; `taskdiv init FILE` writes one for your prompts"
    if files:
        advice = f"the file {files[0]} is in this folder: `taskdiv run {files[0]}`"
    elif near:
        advice = f"did you mean {' or '.join(near)}?"
    return f"{found}; built-in: {', '.join(built_in_names())}; {advice}"


def _near_files(source: str) -> str:
    path = Path(source)
    there = [] if "://" in source or not path.parent.is_dir() else [one.name for one in path.parent.glob("*.y*ml")]
    if path.name in there:
        return "a link of this name is broken"
    near = difflib.get_close_matches(path.name, there, 2, cutoff=0.7)
    return f"did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else "check the path"


def origin_of(text: str) -> str | None:
    """Return the path of the original file of a stored copy; None if `text` is not a stored copy."""
    first_line = text.partition("\n")[0]
    return first_line.removeprefix(ORIGIN).strip() if first_line.startswith(ORIGIN) else None


def built_in_names() -> list[str]:
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def stored(url: str) -> dict[str, str]:
    """Return the experiments in the store at `url` (see `store.home`), as a map from name to argument of `read_text`."""
    fs, path = remote.filesystem(url)
    files = [str(file) for file in fs.glob(f"{glob.escape(path)}/*/experiment.yaml")]
    return {file.rsplit("/", 2)[-2]: str(fs.unstrip_protocol(file)) if "://" in url else file for file in files}


def sources(url: str) -> dict[str, str]:
    """Return the stored and the built-in experiments, as `stored` does. A built-in one replaces a stored one of the same name."""
    return {**stored(url), **{name: name for name in built_in_names()}}


def parse(text: str, origin: str) -> Experiment:
    """Turn the text of an experiment file into an `Experiment`; raise ExperimentError if it has mistakes.

    Raise ValueError if `origin` is a URL, and a relative path in the file leads out of its bucket.
    Error messages name `origin`, the path of the file. Relative paths refer to the folder of this file, or to the folder of the
    original file if `text` is a stored copy.
    """
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
    problems += [Problem(place, "occurs twice; keep one of them") for place in repeated]
    problems += _cross_field_problems(raw)
    if not problems and experiment is not None:
        problems += round_problems(experiment)
        problems += [] if problems else variants.problems(experiment)
    if problems or experiment is None:
        placed = sorted(((_line(problem, root), problem) for problem in problems), key=lambda one: one[0])
        lines = [f"  {origin}:{line}: {problem.name}: {problem.message}" for line, problem in placed]
        left = f"\n  and {len(lines) - SHOWN_N:,} more" if len(lines) > SHOWN_N else ""
        raise ExperimentError(f"{origin} has {len(lines):,} mistake(s):\n" + "\n".join(lines[:SHOWN_N]) + left)
    return experiment


def _own_order_place(location: tuple[str | int, ...], raw: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Turn a location in `own_orders`, which is not in the file, into a location in `strategies`."""
    if location[:1] != ("own_orders",) or len(location) < 2 or "own_orders" in raw:
        return location
    own = [index for index, entry in enumerate(raw["strategies"]) if isinstance(entry, dict)]
    return ("strategies", own[int(location[1])], *location[2:])


def _cross_field_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the mistakes that the settings classes do not find, even if individual fields also have mistakes."""
    if raw.get("name") == "dagster":
        yield Problem(("name",), "'dagster' is the folder of Dagster's records; choose another name")
    if "own_orders" in raw:
        yield Problem(("own_orders",), "unknown key; orders of your own are entries of `strategies`")
    if raw.get("keep_annotated") is True and raw.get("purpose") == "study":
        message = "for campaigns only: in a study it would change what the strategies chose; remove the key"
        yield Problem(("keep_annotated",), message)
    if _section(raw, "tuning").get("tokens") is not None:
        message = "for variants only: `robustness: {equal_tokens: {tuning: {tokens: 100000}}}`; remove the key"
        yield Problem(("tuning", "tokens"), message)
    if raw.get("purpose") == "study":
        for key in STUDY_KEYS:
            if raw.get(key) in (None, []):
                message = f"is missing: a study names it, so that its result can be repeated; add {example(key)}"
                yield Problem((key,), message)
    for check in (_primary_problems, _benchmark_problems, _lab_problems, _model_need_problems, _task_need_problems):
        yield from check(raw)
    yield from _score_problems(raw)


def _primary_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    primary, strategies = _section(raw, "primary"), strategy_names(_entries(raw, "strategies"))
    reference = primary.get("reference", "random")
    if primary and strategies:
        for role, name in (("strategy", primary.get("strategy")), ("reference", reference)):
            if name is not None and name not in strategies:
                yield Problem(("primary", role), f"{name!r} is not among the `strategies` of this file")
        if primary.get("strategy") == reference:
            yield Problem(("primary",), "`strategy` and `reference` are the same")


def _benchmark_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    benchmarks, primary = _entries(raw, "benchmarks"), _section(raw, "primary")
    sections = [item for item in benchmarks if isinstance(item, dict)]
    names = [item.get("name") for item in sections]
    twice = sorted(name for name, count in Counter(map(str, names)).items() if count > 1)
    if twice:
        yield Problem(("benchmarks",), f"benchmark {twice[0]!r} occurs twice")
    if "benchmark" in primary and isinstance(raw.get("benchmarks"), list):
        wanted = primary["benchmark"]
        if wanted not in names:
            yield Problem(("primary", "benchmark"), f"{wanted!r} is not among the `benchmarks`")
        metrics = next((metrics_of(item) for item in sections if item.get("name") == wanted), ())
        if metrics and primary.get("metric") not in (None, *metrics):
            found = f"expected {' or '.join(metrics)}, found {primary['metric']!r}"
            yield Problem(("primary", "metric"), found)
    is_unjudged = [item.get("name") == "alpaca_eval" and item.get("judge") is None for item in sections]
    if benchmarks and all(is_unjudged) and len(sections) == len(benchmarks):
        message = "nothing would be scored, since `alpaca_eval` has no `judge`; name one, or another benchmark"
        yield Problem(("benchmarks",), message)


def _lab_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    pool = _section(raw, "pool")
    reader, tasks = pool.get("reader"), pool.get("tasks")
    if reader == "lab" and isinstance(tasks, list):
        unknown = [name for name in tasks if isinstance(name, str) and name not in TASKS]
        if unknown:
            message = f"unknown lab task {unknown[0]!r}; expected some of {', '.join(TASKS)}"
            yield Problem(("pool", "tasks"), message)
    if reader not in ("lab", None):
        for location, source in _model_sources(raw):
            if source.get("lab") is not None:
                message = "the lab's model knows only the lab's vocabulary; use `hub` or `path`"
                yield Problem((*location, "lab"), message)
        for index, item in enumerate(_entries(raw, "benchmarks")):
            if isinstance(item, dict) and item.get("name") == "lab":
                yield Problem(("benchmarks", index), "benchmark `lab` needs `pool: {reader: lab}`")
    if raw.get("chat_template") is True and _section(raw, "base_model").get("lab") is not None:
        yield Problem(("chat_template",), "the lab's model has no chat template; remove the key")


def _model_need_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    if raw.get("base_model") is not None or raw.get("purpose") == "study":
        return
    reading = [strategy.name for strategy in _known_strategies(raw) if strategy.reads_model]
    if reading:
        free = [name for name, strategy in STRATEGIES.items() if not strategy.reads_model]
        message = f"{_listed(reading)} the base model; {ADD_BASE_MODEL}, or use {', '.join(free)}"
        yield Problem(("strategies",), message)
    view = _section(raw, "task_labels").get("view")
    mix = view.get("mix") if isinstance(view, dict) else None
    used = [name for name in OF_BASE_MODEL if name == view or (isinstance(mix, list) and name in mix)]
    if used:
        yield Problem(
            ("task_labels", "view"), f"`{used[0]}` reads the base model; {ADD_BASE_MODEL}, or use another view"
        )
    names = [item.get("name") for item in _entries(raw, "benchmarks") if isinstance(item, dict)]
    if set(names) - {"held_out"}:  # items are held out before a base model is chosen
        yield Problem(("benchmarks",), f"benchmarks score a tuned base model; {ADD_BASE_MODEL}, or remove the key")


def _task_need_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    pool, columns = _section(raw, "pool"), _section(raw, "pool").get("columns")
    has_source = _section(raw, "task_labels").get("from") in ("mapping", "rules", "discovered")
    if pool.get("reader") != "table" or has_source or not isinstance(columns, dict) or columns.get("task") is not None:
        return
    by_task = [strategy.name for strategy in _known_strategies(raw) if strategy.reads_tasks]
    if by_task:
        free = [name for name, strategy in STRATEGIES.items() if not strategy.reads_tasks]
        message = (
            f"{_listed(by_task)} the task of each prompt, and this file names none; add `task_labels: {{from: discovered}}`, "
            "which groups prompts of similar wording and takes each group as a task, or `task: COLUMN` to `pool.columns`, or "
            f"`task_labels: {{from: mapping, path: FILE}}`, or use strategies that read no task: {', '.join(free)}"
        )
        yield Problem(("strategies",), message)


def _score_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    by_score = ", ".join(strategy.name for strategy in _known_strategies(raw) if "scores" in strategy.needs)
    if by_score and raw.get("confidence_sample") is not None:
        message = f"{by_score} needs a score of every prompt: remove the strategy, or `confidence_sample`"
        yield Problem(("confidence_sample",), message)
    if by_score and _section(raw, "confidence").get("of") == "prompt":
        message = f"{by_score} reads scores of the continuation: remove the strategy, or use `of: continuation`"
        yield Problem(("confidence", "of"), message)


def _section(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _entries(raw: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = raw.get(key)
    return value if isinstance(value, list) else []


def _known_strategies(raw: Mapping[str, Any]) -> list[Strategy]:
    """Return the built-in strategies and plug-ins of a file, without own orders, unknown names and broken plug-ins."""
    known = []
    for entry in _entries(raw, "strategies"):
        rounds = _section(raw, "rounds").get(entry) if isinstance(entry, str) else None
        name = rounds.get("of") or entry if isinstance(rounds, dict) else entry
        with contextlib.suppress(ValueError):  # `declaration` reports unknown names
            if isinstance(name, str):
                known.append(STRATEGIES[name] if name in STRATEGIES else plugins.load(name))
    return known


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} read{'s' if len(names) == 1 else ''}"


def _model_sources(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Yield the location and the content (empty if missing) of each section that describes a model."""
    confidence = _section(raw, "confidence")
    yield ("base_model",), _section(raw, "base_model")
    yield ("confidence", "model"), _section(confidence, "model")
    for index, entry in enumerate(_entries(confidence, "alternatives")):
        if isinstance(entry, dict):
            yield ("confidence", "alternatives", index, "model"), _section(entry, "model")


def with_absolute_paths(raw: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Return the content `raw` of an experiment file, with its relative paths made absolute.

    Relative paths refer to the folder of `base`, the path or URL of the file (for a stored copy, of the original file). Raise
    ValueError if `base` is a URL, and a relative path leads out of its bucket.
    """
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
        if isinstance(node, list) and key in ("benchmarks", "alternatives", "strategies", "mix"):
            return [walk(value, "") for value in node]
        return absolute(node) if key in PATH_KEYS else node

    return {name: walk(value, name) for name, value in raw.items()}


def _line(problem: Problem, root: yaml.Node | None) -> int:
    """Return the line of a problem. If the file lacks the last parts of the location, return the line of their parent."""
    node, line = root, 1
    for part in problem.location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                continue  # the tag of a union, or a missing key: keep the line of the parent
            key, node = found[-1]  # the keys before it come from a merged section
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
