"""Save the state of a training after a step in one safetensors file: trained weights, optimiser, schedule and losses.

The order of examples and dropout follow from the seed and the step, so an interruption does not change the final bytes.
The format is safetensors, because a store may be shared, and files of a shared store must not be unpickled.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

VERSION = 1
METADATA = "taskdiv"


class Checkpoint(NamedTuple):
    """The state of a training."""

    of: str  # identity of the training
    losses: tuple[float, ...]  # of the completed steps
    tensors: Mapping[str, Any]
    groups: tuple[Mapping[str, Any], ...]  # the optimiser's settings of each group of parameters
    schedule: Mapping[str, Any]


@dataclass
class Keeper:
    """The place and the frequency of checkpoints. The results of a training do not depend on checkpoints."""

    read: Callable[[], Path | None]  # returns the last checkpoint as a local file, None if there is none
    write: Callable[[Path], None]  # stores a local file; it may move the file
    every_s: float  # seconds between checkpoints, at least ten times the time to write one; 0: after each step
    of: str = ""  # identity of the training; a checkpoint of another one is ignored
    log: Callable[[str], None] = lambda text: None
    kept_s: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    def is_due(self) -> bool:
        wait_s = max(self.every_s, 10 * self.took_s) if self.every_s else 0.0
        return time.monotonic() - self.kept_s >= wait_s

    def keep(self, save: Callable[[], None], path: Path) -> None:
        """Save a checkpoint to `path` and pass the file to `write`. The time to the next checkpoint starts afterwards."""
        started = time.monotonic()
        save()
        self.write(path)
        self.kept_s = time.monotonic()
        self.took_s = self.kept_s - started

    def last(self, steps_n: int, model: Any) -> Checkpoint | None:
        """Return the last checkpoint if it can be used, else None. The log states why a checkpoint is ignored."""
        path = self.read()
        if path is None:
            return None
        try:
            found = read(path)
        except Exception as error:  # any error of safetensors or JSON for a damaged file
            self.log(f"the checkpoint cannot be read and is ignored: {error}")
            return None
        misfit = self._misfit(found, steps_n, model)
        if misfit:
            self.log(f"the checkpoint is {misfit}, and is ignored")
            return None
        self.log(f"continuing after step {len(found.losses)} of {steps_n}")
        return found

    def _misfit(self, found: Checkpoint, steps_n: int, model: Any) -> str:
        """Return why a checkpoint does not belong to this training; empty if it does."""
        if found.of != self.of:
            return f"of another training ({found.of or 'unnamed'})"
        if not 0 < len(found.losses) < steps_n:
            return f"of {len(found.losses)} steps, not of {steps_n}"
        wanted = {name: value.shape for name, value in _trained(model).items()}
        kept = {name: value.shape for name, value in found.tensors.items() if name.startswith("model/")}
        return "" if wanted == kept else "of other parameters than those that are trained"


def _trained(model: Any) -> dict[str, Any]:
    return {f"model/{name}": value for name, value in model.named_parameters() if value.requires_grad}


def save(path: Path, model: Any, optimizer: Any, scheduler: Any, losses: list[float], of: str) -> None:
    from safetensors.torch import save_file

    state = optimizer.state_dict()
    tensors = _trained(model)
    for place, entry in state["state"].items():
        tensors |= {f"optimizer/{place}/{name}": value for name, value in entry.items()}
    schedule = {name: value for name, value in scheduler.state_dict().items() if name != "lr_lambdas"}
    content = {"version": VERSION, "of": of, "losses": losses, "groups": state["param_groups"], "schedule": schedule}
    plain = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    save_file(plain, path, metadata={METADATA: json.dumps(content)})


def read(path: Path) -> Checkpoint:
    """Read a checkpoint from a safetensors file.

    Raises:
        ValueError: the file is not a checkpoint of version VERSION.
        safetensors.SafetensorError: the file is not a complete safetensors file.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        content = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        if content.get("version") != VERSION:
            raise ValueError(f"{path.name} is not a checkpoint of version {VERSION}")
        tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    return Checkpoint(content["of"], tuple(content["losses"]), tensors, tuple(content["groups"]), content["schedule"])


def restore(found: Checkpoint, model: Any, optimizer: Any, scheduler: Any) -> None:
    import torch

    with torch.no_grad():
        for name, value in _trained(model).items():
            value.copy_(found.tensors[name])
    state: dict[int, dict[str, Any]] = {}
    for name, value in found.tensors.items():
        kind, place, what = (*name.split("/", 2), "")[:3]
        if kind == "optimizer":
            state.setdefault(int(place), {})[what] = value
    optimizer.load_state_dict({"state": state, "param_groups": [dict(group) for group in found.groups]})
    scheduler.load_state_dict({**found.schedule, "lr_lambdas": scheduler.state_dict()["lr_lambdas"]})
