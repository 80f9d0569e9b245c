"""Where training stands after a step, in one safetensors file: what is trained, the optimiser, the losses.

Everything else follows from the experiment: the order of examples, the schedule, the draws of dropout are functions of the seed
and the step. So a run that goes on from here ends with the bytes of one that was never stopped. One file, since it can
be put whole; safetensors, since a store may be shared and nothing in it is ever unpickled.
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
    """Where training stood."""

    of: str  # identity of the training
    losses: tuple[float, ...]  # of the steps that are done
    tensors: Mapping[str, Any]
    groups: tuple[Mapping[str, Any], ...]  # the optimiser's settings of each group of parameters
    schedule: Mapping[str, Any]


@dataclass
class Keeper:
    """Where checkpoints go, and how often.

    Attributes:
        read: the last one as a local file, None if there is none.
        write: takes a local file, which it may move.
        every_s: seconds between two, or ten times as long as one takes to write; by time, since results do not depend on when.
            0 for one after each step.
        of: identity of the training; another one's checkpoint is left out.
        log: told what happened.
    """

    read: Callable[[], Path | None]
    write: Callable[[Path], None]
    every_s: float
    of: str = ""
    log: Callable[[str], None] = lambda text: None
    kept_s: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        wait_s = max(self.every_s, 10 * self.took_s) if self.every_s else 0.0
        return time.monotonic() - self.kept_s >= wait_s

    def keep(self, save: Callable[[], None], path: Path) -> None:
        """Save to `path` and pass it on; the next one is due a while after that."""
        started = time.monotonic()
        save()
        self.write(path)
        self.kept_s = time.monotonic()
        self.took_s = self.kept_s - started

    def last(self, steps_n: int, model: Any) -> Checkpoint | None:
        """The last checkpoint, if it can be used; else the log says why it is left out.

        Args:
            steps_n: steps of the whole training.
            model: that is trained.
        """
        path = self.read()
        if path is None:
            return None
        try:
            found = read(path)
        except Exception as error:  # whatever a damaged file makes safetensors or JSON say: training starts anew
            self.log(f"the checkpoint cannot be read and is left out: {error}")
            return None
        misfit = self._misfit(found, steps_n, model)
        if misfit:
            self.log(f"the checkpoint is {misfit}, and is left out")
            return None
        self.log(f"going on after step {len(found.losses)} of {steps_n}")
        return found

    def _misfit(self, found: Checkpoint, steps_n: int, model: Any) -> str:
        """Why a checkpoint is none of this training; empty if it is."""
        if found.of != self.of:
            return f"of another training ({found.of or 'unnamed'})"
        if not 0 < len(found.losses) < steps_n:
            return f"of {len(found.losses)} steps, not of {steps_n}"
        wanted = {f"model/{name}": value.shape for name, value in model.named_parameters() if value.requires_grad}
        kept = {name: value.shape for name, value in found.tensors.items() if name.startswith("model/")}
        return "" if wanted == kept else "of other parameters than those that are trained"


def save(path: Path, model: Any, optimizer: Any, scheduler: Any, losses: list[float], of: str) -> None:
    """Write a checkpoint of what is trained of a model."""
    from safetensors.torch import save_file

    state = optimizer.state_dict()
    tensors = {f"model/{name}": value for name, value in model.named_parameters() if value.requires_grad}
    for place, entry in state["state"].items():
        tensors |= {f"optimizer/{place}/{name}": value for name, value in entry.items()}
    schedule = {name: value for name, value in scheduler.state_dict().items() if name != "lr_lambdas"}
    content = {"version": VERSION, "of": of, "losses": losses, "groups": state["param_groups"], "schedule": schedule}
    plain = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    save_file(plain, path, metadata={METADATA: json.dumps(content)})


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ValueError: it is none, or of another version.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        content = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        if content.get("version") != VERSION:
            raise ValueError(f"{path.name} is no checkpoint of version {VERSION}")
        tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    return Checkpoint(content["of"], tuple(content["losses"]), tensors, tuple(content["groups"]), content["schedule"])


def restore(found: Checkpoint, model: Any, optimizer: Any, scheduler: Any) -> None:
    """Bring model, optimiser and schedule to where they stood; the checkpoint is one that `Keeper.last` gave."""
    import torch

    trained = {f"model/{name}": value for name, value in model.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(found.tensors[name])
    state: dict[int, dict[str, Any]] = {}
    for name, value in found.tensors.items():
        kind, place, what = (*name.split("/", 2), "")[:3]
        if kind == "optimizer":
            state.setdefault(int(place), {})[what] = value
    optimizer.load_state_dict({"state": state, "param_groups": [dict(group) for group in found.groups]})
    scheduler.load_state_dict({**found.schedule, "lr_lambdas": scheduler.state_dict()["lr_lambdas"]})
