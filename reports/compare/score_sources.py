"""The arguments of `taskdiv compare`: paths, each with a name or without, and the reader of each."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from reports.compare import inspect_logs, lm_eval_samples, score_tables
from reports.compare.bounded_files import found_below, json_document
from reports.compare.systems import System

SYSTEMS_MAX_N = 20
EXPECTED = (
    "expected a folder of lm-eval samples or inspect_ai logs (JSON), a file of them, or a CSV of task, item and score"
)


def read_all(arguments: Sequence[str]) -> list[System]:
    """Read the systems of all arguments, each of which is PATH or NAME=PATH.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a file is not valid, two systems have one name, or there are fewer than two or too many systems.
    """
    systems = [system for argument in arguments for system in _read(argument)]
    names = [system.name for system in systems]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(
            f"two systems are called {repeated!r}; name them, such as: taskdiv compare first=PATH second=PATH"
        )
    if not 2 <= len(systems) <= SYSTEMS_MAX_N:
        raise ValueError(f"{len(systems)} system(s) named; expected 2 to {SYSTEMS_MAX_N}")
    return systems


def paths(arguments: Sequence[str]) -> list[Path]:
    """Return the path of each argument."""
    return [_name_and_path(argument)[1] for argument in arguments]


def _read(argument: str) -> list[System]:
    name, path = _name_and_path(argument)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {EXPECTED}")
    own = name or (path.resolve().name if path.is_dir() else path.stem)
    if path.suffix.lower() in (".csv", ".tsv"):
        systems = score_tables.read(path, own, str(path))
        if name and len(systems) > 1:
            raise ValueError(f"{path} has {len(systems)} systems in its column `system`; give the path without {name}=")
        return [*systems] if not name else [_named(systems[0], name)]
    if path.suffix == ".eval" or (path.is_dir() and not _has(path, "*.json") and _has(path, "*.eval")):
        raise ValueError(f"{path} holds logs in inspect_ai's binary format; {inspect_logs.CONVERT}")
    if path.suffix == ".jsonl" or (path.is_dir() and _has(path, lm_eval_samples.PATTERN)):
        return [lm_eval_samples.read(path, own, str(path))]
    if _has_only_results(path):
        raise ValueError(f"{path} has results of lm-eval without samples; run lm_eval again with --log_samples")
    if path.suffix == ".json" or (path.is_dir() and _has(path, "*.json")):
        return [inspect_logs.read(path, own, str(path))]
    raise ValueError(f"{path} has no scores that taskdiv can read; {EXPECTED}")


def _has_only_results(path: Path) -> bool:
    """Return whether every JSON file is named as lm-eval's results file, and the first one is no log of inspect_ai."""
    files = found_below(path, "*.json") if path.is_dir() else [path]
    are_named = files and all(fnmatch(file.name, "results_*.json") for file in files)
    return bool(are_named) and "eval" not in json_document(files[0])


def _named(system: System, name: str) -> System:
    system.name = name
    return system


def _name_and_path(argument: str) -> tuple[str, Path]:
    """Split NAME=PATH. An argument that is itself an existing path, or has no equals sign, is a path."""
    name, sign, rest = argument.partition("=")
    if not sign or Path(argument).expanduser().exists():
        return "", Path(argument).expanduser()
    if not name.strip() or len(name) > 80:
        raise ValueError(
            f"{argument[:120]!r} has no name of 1 to 80 characters before the equals sign; expected NAME=PATH"
        )
    return name.strip(), Path(rest).expanduser()


def _has(folder: Path, pattern: str) -> bool:
    return bool(found_below(folder, pattern))
