"""An experiment whose base model rotted on disk, so that a contract is really broken: a bit of its weights is another one.

The table that says what the weights were is lost too, as it is in a folder that was restored in part: Dagster makes it again from
what lies there, and finds other hashes than those that were noted.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.home import Home


def rotten_experiment(home: Home, name: str) -> None:
    """The miniature under another name, up to its base model."""
    made = home.taskdiv("run", str(home.write_experiment(name)), "--until", "base_model", "--workers", "1")
    assert made.returncode == 0, made.stderr
    folder = home.folder / "results" / name
    (weights,) = folder.glob("folders/*/model.safetensors")
    _flip_last_bit(weights)
    (folder / "tables/base_model.parquet").unlink()


def rotten_copy(home: Home, source: str, name: str) -> None:
    """The same from the base of an experiment that was run: nothing is trained."""
    target = home.folder / "results" / name
    (weights,) = (home.folder / "results" / source).glob("folders/*/model.safetensors")
    copied = target / "folders" / weights.parent.name
    shutil.copytree(weights.parent, copied)
    _flip_last_bit(copied / weights.name)
    home.write_experiment(name).rename(target / "experiment.yaml")


def _flip_last_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
