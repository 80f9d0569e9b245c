"""What the sections of an experiment file have in common, and how a number is read from the environment."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[a-z0-9_]+$"  # of experiments, benchmarks and other things that become a part of a path
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]


# Numbers and switches as a file has them: no text that could be meant as one ("1_000", "yes"), and no 1 for true.
Number = Annotated[float, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]


class Settings(BaseModel):
    """Base of every section: frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def whole_number(variable: str, default: int) -> int:
    """A setting of the machine, from the environment.

    Raises:
        ValueError: it is not a whole number from 0 on.
    """
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"${variable} is {text!r}; expected a whole number such as {default}, or 0")
    return int(text)
