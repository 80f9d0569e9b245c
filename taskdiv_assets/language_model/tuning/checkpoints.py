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
        every_s: seconds between two; by time, since results do not depend on when.
        log: told what happened.
    """

    read: Callable[[], Path | None]
    write: Callable[[Path], None]
    every_s: float
    log: Callable[[str], None] = lambda text: None
    kept_s: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self.kept_s >= self.every_s

    def kept(self) -> None:
        """The next one is due a while after now: however long it took to write, training goes on in between."""
        self.kept_s = time.monotonic()

    def last(self, steps_n: int) -> Checkpoint | None:
        """The last checkpoint, if it can be used.

        Args:
            steps_n: steps of the whole training.
        """
        path = self.read()
        if path is None:
            return None
        try:
            found = read(path)
        except Exception as error:  # whatever a damaged file makes safetensors or JSON say: training starts anew
            self.log(f"the checkpoint cannot be read and is left out: {error}")
            return None
        if not 0 < len(found.losses) < steps_n:
            self.log(f"the checkpoint is of {len(found.losses)} steps, not of {steps_n}, and is left out")
            return None
        self.log(f"going on after step {len(found.losses)} of {steps_n}")
        return found


def save(path: Path, model: Any, optimizer: Any, scheduler: Any, losses: list[float]) -> None:
    """Write a checkpoint of what is trained of a model."""
    from safetensors.torch import save_file

    state = optimizer.state_dict()
    tensors = {f"model/{name}": value for name, value in model.named_parameters() if value.requires_grad}
    for place, entry in state["state"].items():
        tensors |= {f"optimizer/{place}/{name}": value for name, value in entry.items()}
    schedule = {name: value for name, value in scheduler.state_dict().items() if name != "lr_lambdas"}
    content = {"version": VERSION, "losses": losses, "groups": state["param_groups"], "schedule": schedule}
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
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict: it cannot be iterated
    return Checkpoint(tuple(content["losses"]), tensors, tuple(content["groups"]), content["schedule"])


def restore(found: Checkpoint, model: Any, optimizer: Any, scheduler: Any) -> None:
    """Bring model, optimiser and schedule to where they stood.

    Raises:
        ValueError: the checkpoint is of another model.
    """
    import torch

    trained = {f"model/{name}": value for name, value in model.named_parameters() if value.requires_grad}
    kept = {name for name in found.tensors if name.startswith("model/")}
    if set(trained) != kept:
        raise ValueError("the checkpoint is of other parameters than those that are trained; remove it")
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
