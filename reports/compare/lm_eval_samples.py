"""Reader of the samples that lm-eval writes with `--log_samples`, and of the results file beside them.

Source of the format: lm-eval 0.4.13, `lm_eval/evaluator.py` (samples) and `lm_eval/loggers/evaluation_tracker.py` (file names).
"""

import re
from pathlib import Path
from typing import Any

from reports.compare.bounded_files import found_below, json_document, json_lines, sha256
from reports.compare.systems import Hashes, System, Task, mapping, number, text

FORM = "lm-eval samples"
PATTERN = "samples_*.jsonl"
_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)")
_RESULTS_BYTES_MAX = 64 * 2**20


def read(path: Path, name: str, source: str) -> System:
    """Read a folder of samples, or one file of them.

    Raises:
        ValueError: a file is not valid, the folder has the samples of several models, or an item has two scores.
    """
    system = System(name, source, FORM)
    for task, (file, date) in _latest(path, system).items():
        _read_samples(file, task, system)
        _read_results(file, task, date, system)
    return system


def _latest(path: Path, system: System) -> dict[str, tuple[Path, str]]:
    """Return for each task its file and date. If a task has several files, only the latest is used, and a note says so."""
    files = found_below(path, PATTERN) if path.is_dir() else [path]
    if len(folders := sorted({str(file.parent) for file in files})) > 1:
        raise ValueError(
            f"{path} has samples in several folders ({', '.join(folders[:4])}); lm-eval writes one folder for each model, "
            "so name the folder of one model"
        )
    found: dict[str, tuple[Path, str]] = {}
    repeated = set()
    for file in files:
        match = _NAME.fullmatch(file.stem)
        task, date = (match["task"], match["date"]) if match else (file.stem.removeprefix("samples_"), "")
        if task in found:
            repeated.add(task)
        if task not in found or date >= found[task][1]:
            found[task] = file, date
    system.note_repeated(repeated)
    return found


def _read_samples(file: Path, task: str, system: System) -> None:
    system.digests.add(sha256(file))
    for line, sample in json_lines(file):
        where = f"{file}, line {line:,}"
        item = sample.get("doc_id")
        if not isinstance(item, int | str) or isinstance(item, bool):
            raise ValueError(f"{where}: `doc_id` is {item!r}; expected a number, as lm-eval writes with --log_samples")
        metrics = sample.get("metrics")
        names = metrics if isinstance(metrics, list) else [key for key in sample if key != "doc_id"]
        made = text(sample.get("filter"))
        suffix = "" if made in ("", "none") else f",{made}"
        for metric in names:
            label = f"{text(metric)}{suffix}"
            score = number(sample.get(str(metric)))
            if score is not None:
                system.add(task, str(item), label, 0, score, where)
            elif isinstance(metrics, list):
                system.unusable.setdefault(label, f"{where} has no number for it")
        fields = (text(sample.get(f"{what}_hash")) for what in ("doc", "prompt", "target"))
        system.hashes[task, str(item)] = Hashes(*fields)


def _read_results(file: Path, task: str, date: str, system: System) -> None:
    """Add number of examples, versions, model and metrics for which lower is better, from the results file of the same date."""
    beside = sorted(file.parent.glob(f"*_{date}.json")) if date else []
    if not beside:
        note = (
            f"No results file of lm-eval is beside the samples of {system.name}: few-shot examples, task versions, and whether a "
            "higher score is better, are not known."
        )
        system.notes += [] if note in system.notes else [note]
        return
    if beside[0].stat().st_size > _RESULTS_BYTES_MAX:
        raise ValueError(
            f"{beside[0]} is larger than {_RESULTS_BYTES_MAX / 2**20:,.0f} MiB; expected a results file of lm-eval"
        )
    found = json_document(beside[0])
    own = system.tasks.setdefault(task, Task())
    own.model = text(found.get("model_name"))
    settings: dict[str, Any] = {
        "number of few-shot examples": mapping(found.get("n-shot")).get(task),
        "version of the task": mapping(found.get("versions")).get(task),
        "version of lm-eval": found.get("lm_eval_version"),
    }
    own.settings |= {name: text(value) for name, value in settings.items() if text(value)}
    higher = mapping(mapping(found.get("higher_is_better")).get(task))
    own.lower_is_better |= {str(metric) for metric, is_better in higher.items() if is_better is False}
    own.higher_is_better |= {str(metric) for metric, is_better in higher.items() if is_better is True}
