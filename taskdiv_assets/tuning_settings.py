"""The section `tuning` of an experiment file, and the base types of all sections.

The settings of `Tuning` are part of an adapter's identity. For `method: full`, LoRA's settings are left out of it. Device, memory
and number of processes are not part of the identity; see docs/TUNING.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
# Numbers and switches of an experiment file. Text such as "1_000" or "yes" is not converted, and 1 does not mean true.
Number = Annotated[float, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]


class Settings(BaseModel):
    """Base class of every section of an experiment file. Objects are immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LearningRates(Settings):
    """Candidate learning rates. Trials are trained and validated on answered prompts, never on test items.

    Attributes:
        choose: the candidates.
        examples: number of prompts that a trial is trained on; by default, the smallest budget. If fewer answered prompts remain
            after the validation prompts are taken, all of these are used.
        validation: number of prompts that validate a trial, but at most one fifth of the answered prompts.
        seeds: training seeds; each candidate is tried with each seed, and the mean over the seeds decides.
    """

    choose: Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=2)]
    examples: PositiveInt | None = None
    validation: PositiveInt = 200
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)

    @field_validator("choose", "seeds")
    @classmethod
    def are_distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("a value occurs here twice")
        return values


class Tuning(Settings):
    """Supervised fine-tuning on the chosen prompts and their answers. It trains a LoRA adapter or all weights.

    Attributes:
        learning_rate: a number, or candidates to choose from.
        epochs: passes over the chosen prompts.
        min_steps: smallest number of steps; if the epochs make fewer steps, more epochs follow.
        batch_size: number of examples in a step, whatever their lengths; the last step of an epoch may have fewer.
        dropout: dropout of LoRA's inputs.
        max_length: largest number of tokens of an example; a longer example is cut.
        packing: whether one row may contain several examples; this changes results by rounding only.
        pass_tokens: largest number of tokens of one pass through the model; a step takes as many passes as it needs, and an
            example with more tokens has its own pass.
        quantization: number format of the base model while an adapter is trained over it (QLoRA).
        tokens: set by a variant only: number of tokens to train on, instead of `epochs` and `min_steps`.
    """

    method: Literal["lora", "full"] = "lora"
    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    learning_rate: Annotated[Number, Field(gt=0)] | LearningRates
    scheduler: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    warmup_ratio: Annotated[Number, Field(ge=0, le=1)] = 0.06
    epochs: PositiveInt
    min_steps: Annotated[int, Field(ge=0, strict=True)] = 0
    batch_size: PositiveInt = 16
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[Number, Field(gt=0)] = 1.0
    max_length: PositiveInt = 2048
    packing: Literal["auto"] | Switch = "auto"
    pass_tokens: PositiveInt = 16_384
    quantization: Literal["nf4"] | None = None
    # Left out of identities if it is None, as in results of earlier versions.
    tokens: Annotated[SkipJsonSchema[PositiveInt | None], Field(exclude_if=lambda found: found is None)] = None

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        if self.method == "full" and self.quantization:
            raise ValueError("`quantization` is for `method: lora`: a 4-bit base cannot be trained itself")
        return self

    @property
    def candidates(self) -> LearningRates | None:
        """Candidates for the learning rate; None if the file gives one rate."""
        return self.learning_rate if isinstance(self.learning_rate, LearningRates) else None

    @property
    def rate(self) -> float:
        """The learning rate. Raise ValueError if the file gives candidates."""
        if isinstance(self.learning_rate, LearningRates):
            raise ValueError("the learning rate is still to be chosen; use `at` with one of the candidates")
        return self.learning_rate

    def at(self, learning_rate: float) -> Tuning:
        """Return a copy of these settings with the number `learning_rate`."""
        return self.model_copy(update={"learning_rate": learning_rate})
