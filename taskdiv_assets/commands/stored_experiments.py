"""Functions that list, remove and rename the experiments of a home, the folder or URL of `$TASKDIV_HOME`.

Only the report's identity contains the experiment's name. A renamed experiment therefore keeps its results, and only the report
is computed again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from data_contracts import plain_yaml
from data_contracts.experiment_fields import NAME_PATTERN
from data_contracts.variant_names import split_name
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.orphans import end_orphans
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.experiment_file import ExperimentError
from taskdiv_assets.experiment.mistakes import PATTERN_WORDS
from taskdiv_assets.orchestration import instance
from taskdiv_assets.orchestration.asset_paths import place
from taskdiv_assets.storage import locks
from taskdiv_assets.storage.store import Store

if TYPE_CHECKING:
    from dagster import DagsterInstance

FILE = "experiment.yaml"
# Folders of data that was paid for and cannot be computed again, with words for their files.
BOUGHT: Mapping[str, str] = {
    "exports": "export(s)",
    "annotations": "import(s) of answers",
    "verdicts": "judge(s)",
    "model_replies": "unfinished answer(s) by models",
    "drafts": "file(s) of drafts",
}
NAME_LENGTH_MAX = 63  # the limit of `name` in an experiment file
# The first of these paths that exists decides the stage of an experiment.
STAGES = (
    ("tables/benchmark_scores", "scored"),
    ("tables/adapter", "trained"),
    ("annotations", "answers imported"),
    ("exports", "sent out"),
    ("tables/annotation_batch", "lists made"),
    ("tables/ranking", "pool ranked"),
    ("tables/raw_pool.parquet", "pool read"),
)


class Listed(NamedTuple):
    """One experiment of a home."""

    name: str
    is_built_in: bool
    purpose: str
    stage: str
    file: str | None  # file of the user from which it was read
    problem: str  # reason why it cannot be used; empty if it can


class Size(NamedTuple):
    """Size of an experiment in the store."""

    files_n: int
    bytes_n: int


def listed(url: str) -> Iterator[Listed]:
    """Yield every experiment of a home, the built-in ones first. Experiments that cannot be used are included."""
    for name, source in sorted(experiment_file.sources(url).items(), key=lambda one: (one[1] != one[0], one[0])):
        text = purpose = problem = ""
        try:
            text, origin = experiment_file.read_text(source)
            purpose = experiment_file.parse(text, origin).purpose
        except ExperimentError as error:
            lines = [line.strip() for line in str(error).splitlines()]
            problem = lines[1] if len(lines) > 1 else lines[0]
        yield Listed(name, source == name, purpose, stage(Store(name, url)), experiment_file.origin_of(text), problem)


def stage(store: Store) -> str:
    """Return the stage that an experiment has reached, according to its stored files."""
    there = {*(f"tables/{name}" for name in store.names("tables")), *store.names()}
    return next((words for path, words in STAGES if path in there), "nothing yet")


def size(store: Store) -> Size:
    """Return the number of an experiment's stored files, and their size in bytes."""
    try:
        found: dict[str, dict[str, int]] = store.fs.find(store.path(), detail=True)
    except FileNotFoundError:
        return Size(0, 0)
    return Size(len(found), sum(int(info["size"]) for info in found.values()))


def bought(store: Store) -> str:
    """Return a phrase that counts exports, imports of answers, and judges with verdicts; empty if there are none."""
    counts = {words: len(store.names(folder)) for folder, words in BOUGHT.items()}
    return ", ".join(f"{count} {words}" for words, count in counts.items() if count)


def refuse_busy(store: Store, dagster: DagsterInstance | None) -> None:
    """Raise ValueError if a process holds a lock of an experiment, or if a Dagster run of the experiment is waiting or active."""
    owners = locks.holders(store)
    runs = [] if dagster is None else _runs(store.experiment, dagster)
    if owners or runs:
        who = f"process {owners[0]}" if owners else f"Dagster's run {runs[0]}"
        raise ValueError(f"{store.experiment} is in use ({who}); wait until it ends, or stop it, and try again")


def remove(store: Store, dagster: DagsterInstance | None) -> None:
    """Remove all stored files of an experiment, and Dagster's records of its assets and budgets.

    The stored experiment file is removed last, so that an interrupted removal can be repeated. Raise ValueError if the experiment
    is in use (see `refuse_busy`).
    """
    refuse_busy(store, dagster)
    for path in store.fs.ls(store.path(), detail=False):
        if str(path).rstrip("/").rsplit("/", 1)[-1] != FILE:
            store.fs.rm(path, recursive=True)
    store.remove(FILE)
    if store.is_local:
        with contextlib.suppress(FileNotFoundError):
            Path(store.path()).rmdir()
    if dagster is not None:
        forget(store.experiment, dagster)


def rename(old: Store, new: Store, dagster: DagsterInstance | None) -> None:
    """Rename an experiment, which must be stored on a local disk. All results are kept.

    The folder is renamed atomically. Then the name in the stored experiment file is changed. If the process is killed in between,
    a second call completes the change.

    Raises:
        ValueError: the experiment is not on a local disk or is in use, the new name is not allowed or is taken, or the stored
            experiment file is damaged (see `named`).
    """
    check_new_name(new.experiment)
    if not old.is_local:
        raise ValueError(
            f"{old.url} is not on a local disk: its files cannot be renamed in one step, and half of them would be lost if it "
            f"failed. Copy it to {new.url} with your storage's own tool, change `name:` in {new.locate(FILE)}, and remove the old"
        )
    text = new.get(FILE)
    if not _is_unfinished(old, text):
        if Path(new.path()).exists():
            raise ValueError(f"{new.experiment} exists already, at {new.url}; choose another name, or remove it first")
        refuse_busy(old, dagster)
        Path(old.path()).rename(new.path())
        text = new.get(FILE)
    new.put(named((text or b"").decode("utf-8"), new.experiment).encode(), FILE)
    if dagster is not None:
        forget(old.experiment, dagster)


def check_new_name(name: str) -> None:
    """Raise ValueError if the name of a user's experiment has the wrong form or is reserved."""
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > NAME_LENGTH_MAX:
        words = PATTERN_WORDS[NAME_PATTERN]
        raise ValueError(f"{name!r} cannot be a name; expected {words}, at most {NAME_LENGTH_MAX} characters")
    if name in (*experiment_file.built_in_names(), "dagster"):
        raise ValueError(f"{name!r} is reserved by taskdiv; choose another name")


def named(text: str, name: str) -> str:
    r"""Return the text of an experiment file with another `name`.

    Raise ExperimentError if the text has no `name`, and YamlError if it is not valid YAML.

    >>> named("name: old  # ours\\npool: x\\n", "new")
    'name: new  # ours\\npool: x\\n'
    """
    root = plain_yaml.read(text, "the stored experiment file").root
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    node = next((value for key, value in pairs if key.value == "name"), None)
    if node is None:
        raise ExperimentError("the stored experiment file has no `name:`; correct its source and run it again")
    quoted = plain_yaml.written(name)  # '2024' is text only in quotes
    return f"{text[: node.start_mark.index]}{quoted}{text[node.end_mark.index :]}"


@contextlib.contextmanager
def opened_dagster() -> Iterator[DagsterInstance | None]:
    """Yield Dagster's instance, or None if it does not exist. A missing instance is not created."""
    if not (instance.home_folder() / "dagster.yaml").exists():
        yield None
        return
    with instance.open_instance() as opened:
        yield opened


def forget(name: str, dagster: DagsterInstance) -> None:
    """Remove Dagster's records of the assets and budgets of an experiment and its variants. The runs stay in the history."""
    from dagster import AssetKey

    if not split_name(name)[1]:
        for variant in {key.path[0] for key in dagster.get_asset_keys() if split_name(key.path[0])[0] == name} - {name}:
            forget(variant, dagster)
    every = [place(name, asset) for asset in REGISTRY.order]
    every += [place(name, asset, is_full_pool=True) for asset in REGISTRY.by_cell]
    dagster.wipe_assets([AssetKey(one.path) for one in every])
    partitions = f"{name}_budget"
    for key in dagster.get_dynamic_partitions(partitions):
        dagster.delete_dynamic_partition(partitions, key)


def _runs(name: str, dagster: DagsterInstance) -> list[str]:
    """Mark the runs of killed processes as ended. Then return the ids of an experiment's waiting and active runs."""
    from dagster import DagsterRunStatus, RunsFilter

    end_orphans(dagster)
    going = [DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    return [run.run_id for run in dagster.get_runs(RunsFilter(statuses=going, tags={"experiment": name}))]


def _is_unfinished(old: Store, text: bytes | None) -> bool:
    """Return True if a rename was interrupted: `old` has no folder, but `text`, the file in the new folder, has the old name."""
    if text is None or Path(old.path()).exists():
        return False
    with contextlib.suppress(plain_yaml.YamlError):
        raw = plain_yaml.read(text.decode("utf-8", errors="replace"), FILE).value
        return isinstance(raw, dict) and raw.get("name") == old.experiment
    return False
