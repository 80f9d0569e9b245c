"""Reader of the logs that inspect_ai writes as JSON. Each epoch is a run of the system.

Source of the format: inspect_ai 0.3, `inspect_ai/log/_log.py` (EvalLog) and `inspect_ai/scorer/_metric.py` (values of scores).
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reports import words
from reports.compare.bounded_files import found_below, json_document, sha256
from reports.compare.systems import Hashes, System, Task, mapping, number, text

FORM = "inspect_ai logs"
CONVERT = "write JSON with `inspect log convert PATH --to json --output-dir FOLDER`"
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")


def read(path: Path, name: str, source: str) -> System:
    """Read a folder of JSON logs, or one log.

    Raises:
        ValueError: a log is not valid or not finished, or the folder has logs of several models.
    """
    system = System(name, source, FORM)
    for task, (file, log) in _latest(path, system).items():
        system.digests.add(sha256(file))
        evaluated = mapping(log.get("eval"))
        settings = {"version of the task": text(evaluated.get("task_version"))}
        settings |= {f"argument {key}": text(value) for key, value in mapping(evaluated.get("task_args")).items()}
        system.tasks[task] = Task({key: value for key, value in settings.items() if value}, model=_model(log))
        _read_samples(file, task, log, system)
    return system


def _latest(path: Path, system: System) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return for each task its finished log. If a task has several, only the latest is used, and a note says so."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    repeated, unfinished = set(), []
    for file, log in _logs(path):
        task, status = text(mapping(log["eval"]).get("task")), log.get("status")
        if status != "success":
            unfinished.append(f"{file.name} ({text(status) or 'no status'})")
            continue
        if not isinstance(log.get("samples"), list):
            raise ValueError(f"{file}: the log has no samples; write it with them (log_samples)")
        if task in found:
            repeated.add(task)
        if task not in found or _created(log) >= _created(found[task][1]):
            found[task] = file, log
    if len(models := sorted({_model(log) for _, log in found.values()})) > 1:
        raise ValueError(
            f"{path} has logs of several models ({', '.join(models[:4])}); put the logs of each model into a folder of its own"
        )
    system.note_repeated(repeated)
    if unfinished:
        system.notes.append(f"Left out, not finished: {words.listing(unfinished, most_n=4)} of {system.name}.")
    if not found:
        raise ValueError(f"{path} has no finished log of inspect_ai as JSON; {CONVERT}")
    return found


def _logs(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in found_below(path, "*.json") if path.is_dir() else [path]:
        log = json_document(file)
        if isinstance(log.get("eval"), dict):
            yield file, log
        elif not path.is_dir():
            raise ValueError(f"{file}: expected a log of inspect_ai, which has the key `eval`")


def _model(log: dict[str, Any]) -> str:
    return text(mapping(log["eval"]).get("model"))


def _created(log: dict[str, Any]) -> str:
    return text(mapping(log["eval"]).get("created"))


def _read_samples(file: Path, task: str, log: dict[str, Any], system: System) -> None:
    for place, sample in enumerate(log["samples"]):
        where = f"{file}, sample {place + 1:,}"
        own = mapping(sample)
        item, epoch = own.get("id"), own.get("epoch", 1)
        is_valid = isinstance(item, int | str) and isinstance(epoch, int) and 0 <= epoch < 1_000_000
        if not is_valid or isinstance(item, bool):
            raise ValueError(f"{where}: `id` is {item!r} and `epoch` is {epoch!r}; expected an id and a whole number")
        for metric, value in _values(mapping(own.get("scores"))):
            score = as_score(value)
            if score is None:
                system.unusable.setdefault(
                    metric, f"{where} has the value {text(value)[:40]!r} for it, which is no score"
                )
            else:
                system.add(task, str(item), metric, epoch, score, where)
        asked, target = _hash([_question(own.get("input")), own.get("choices")]), _hash(own.get("target"))
        system.hashes[task, str(item)] = Hashes(question=asked, target=target)


def _question(asked: Any) -> Any:
    """Return the input of a sample without what differs from log to log, such as the ids of messages."""
    if not isinstance(asked, list):
        return asked
    return [[mapping(message).get(key) for key in ("role", "content")] for message in asked]


def _values(scores: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each score of a sample. A score with several values gives one for each of them."""
    for scorer, score in scores.items():
        value = mapping(score).get("value")
        if isinstance(value, dict):
            yield from ((f"{scorer}/{key}", one) for key, one in value.items())
        else:
            yield str(scorer), value


def as_score(value: Any) -> float | None:
    """Return the value of a score as float: C, P, I, N, yes, no, true, false or a number. Return None for any other value.

    Source: `value_to_float` of inspect_ai. Where we differ: a value that is no score gives None instead of 0.

    >>> [as_score(value) for value in ("C", "P", "No", "0.25", True, "perhaps")]
    [1.0, 0.5, 0.0, 0.25, 1.0, None]
    """
    if not isinstance(value, str):
        return number(value)
    if _NUMBER.fullmatch(value):
        return float(value)
    return _LETTERS.get(value, _LETTERS.get(value.lower()))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
