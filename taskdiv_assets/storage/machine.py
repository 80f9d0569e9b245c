"""Settings of this machine, from environment variables. This module is in `storage`, because the store reads settings too.

`Machine` declares every environment variable that is a setting of this project. It is a plain pydantic model, because importing
pydantic-settings would take 0.16 s more in every command.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("not a whole number")
    return int(text)


def _variable(
    purpose: str, default: object = None, *, name: str | None = None, expected: str = "text", **limits: Any
) -> Any:
    """Return a field that is read from an environment variable. `expected` ends the message "$NAME is 'x'; expected …"."""
    return Field(default, alias=name, description=purpose, json_schema_extra={"expected": expected}, **limits)


Whole = Annotated[int, BeforeValidator(_decimal)]
Stripped = Annotated[str, BeforeValidator(str.strip)]
Engine = Literal["in_process", "multiprocess", "ray", "k8s"]
ANY_NUMBER = "a whole number such as 8, or 0"
# An empty value of these variables counts: it hides every GPU. Other variables with an empty value count as not set.
KEEPS_EMPTY = frozenset({"CUDA_VISIBLE_DEVICES"})


class Machine(BaseModel):
    """The settings of this machine. Each field is one environment variable."""

    model_config = ConfigDict(frozen=True, alias_generator=lambda name: f"TASKDIV_{name.upper()}")

    home: str = _variable("results: a folder, or an fsspec URL such as s3://bucket/prefix", ".taskdiv")
    dagster_home: str = _variable(
        "Dagster's records and its dagster.yaml: a folder on a local disk", ".taskdiv/dagster", name="DAGSTER_HOME"
    )
    cache: str | None = _variable("folder for copies of remote files; the default is in the system's temporary folder")
    cache_gb: float | None = _variable(
        "upper bound of that folder in GB (10^9 bytes); the default is 40, or half of its disk if that is less",
        expected="gigabytes above 0, such as 40", gt=0, allow_inf_nan=False,
    )  # fmt: skip
    checkpoint_s: float = _variable(
        "seconds between two checkpoints of a training; a worker that is killed loses at most this", 60.0,
        expected="seconds between checkpoints, such as 60", ge=0,
    )  # fmt: skip
    executor: Engine = _variable(
        "where steps run: in_process, multiprocess, ray or k8s; read when the definitions are loaded", "in_process",
        expected="one of in_process, multiprocess, ray, k8s",
    )  # fmt: skip
    experiments: str = _variable("names of more built-in experiments that the UI shows, separated by commas", "")
    scorers: Whole = _variable(
        "workers that score one pool together, each with a GPU; 0 means that the step scores it alone", 0, expected=ANY_NUMBER
    )  # fmt: skip
    step_gpus: Whole | None = _variable(
        "GPUs of a step that holds the model, by default 1; 0 for models that run on a CPU", expected=ANY_NUMBER
    )
    step_memory_gib: Whole | None = _variable(
        "host memory in GiB that such a step requests, instead of the value for its asset", expected=ANY_NUMBER
    )
    training_processes: Whole = _variable(
        "processes that train one adapter together, one for each GPU", 1,
        expected="a number of processes, one for each GPU, such as 2", ge=1,
    )  # fmt: skip
    accelerators: Whole = _variable(
        "GPUs of the cluster: how many steps may hold the model at once; 0 means that this machine's GPUs are counted", 0,
        expected=ANY_NUMBER,
    )  # fmt: skip
    report_port: Whole = _variable(
        "port on which `taskdiv ui` serves reports, to this machine only", 3939,
        expected="a port from 1 to 65535", ge=1, le=65_535,
    )  # fmt: skip
    judge_url: Stripped = _variable(
        "address of AlpacaEval's judge: an OpenAI-compatible endpoint such as https://host/v1", ""
    )
    judge_key: SecretStr = _variable("key of that endpoint", SecretStr(""))
    annotator_url: Stripped = _variable(
        "address of the models that answer prompts or write drafts: an OpenAI-compatible endpoint such as https://host/v1",
        "",
    )
    annotator_key: SecretStr = _variable("key of that endpoint", SecretStr(""))
    quiet: Annotated[bool, BeforeValidator(bool)] = _variable(
        "any text keeps warnings out of the log while definitions are loaded", False
    )
    threads: str = _variable("threads of one process; 1 is fastest where several run", "1", name="OMP_NUM_THREADS")
    visible_gpus: str | None = _variable(
        "GPUs that processes may use, separated by commas; by default all", name="CUDA_VISIBLE_DEVICES"
    )
    tuning_workers: Whole = _variable(
        "number of processes of one training; set by taskdiv for these processes only", 1, expected=ANY_NUMBER
    )
    rank: str = _variable("number of a training process; set by torchrun", "0", name="RANK")
    local_rank: str | None = _variable(
        "number of a training process on its machine; set by torchrun", name="LOCAL_RANK"
    )
    local_world_size: str | None = _variable(
        "number of training processes on one machine; set by torchrun", name="LOCAL_WORLD_SIZE"
    )


FIELDS: Mapping[str, str] = {str(field.alias): name for name, field in Machine.model_fields.items()}  # variable → field
SECRETS = frozenset(name for name, field in FIELDS.items() if Machine.model_fields[field].annotation is SecretStr)


class Setting(NamedTuple):
    """One environment variable in the list of `taskdiv doctor`."""

    name: str
    value: str  # the value of a secret is not shown
    is_set: bool  # False if the default is used
    purpose: str
    problem: str  # reason why the value cannot be used; empty if it can be used


def machine() -> Machine:
    """Return the settings of this machine. Raise ValueError if the value of a variable cannot be used."""
    return _machine(tuple(map(os.environ.get, FIELDS)))


@lru_cache(maxsize=8)  # a repeated call takes under 0.1 ms
def _machine(values: tuple[str | None, ...]) -> Machine:
    given = _given(dict(zip(FIELDS, values, strict=True)))
    try:
        return Machine.model_validate(given)
    except ValidationError as error:
        first = next(iter(_problems(error, given).values()))
        raise ValueError(first) from None  # pydantic's message contains the value, which may be a secret


def listed(environ: Mapping[str, str]) -> list[Setting]:
    """Return every variable of `Machine` with its value in `environ`, or its default if it is not set. Secrets are not shown."""
    given = _given(environ)
    problems: Mapping[str, str] = {}
    try:
        Machine.model_validate(given)
    except ValidationError as error:
        problems = _problems(error, given)

    def value(name: str) -> str:
        if name in SECRETS:
            return "set, not shown" if name in given else "not set"
        default = Machine.model_fields[FIELDS[name]].default
        has_default = default not in (None, "") and default is not False
        return given.get(name, f"{default}".removesuffix(".0") if has_default else "not set")

    return [
        Setting(name, value(name), name in given, str(Machine.model_fields[field].description), problems.get(name, ""))
        for name, field in FIELDS.items()
    ]


def given(names: Iterable[str]) -> dict[str, str]:
    """Return the named variables that are set, with their values, for the environment of another process."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _given(environ: Mapping[str, str | None]) -> dict[str, str]:
    found = {name: environ.get(name) for name in FIELDS}
    return {name: text for name, text in found.items() if text is not None and (text or name in KEEPS_EMPTY)}


def _problems(error: ValidationError, given: Mapping[str, str]) -> dict[str, str]:
    """Return an error message for each variable whose value cannot be used. Values of secrets are not shown."""
    found = {}
    for one in error.errors(include_url=False):
        name = str(one["loc"][0])
        extra = Machine.model_fields[FIELDS[name]].json_schema_extra
        expected = extra["expected"] if isinstance(extra, dict) else ""
        value = "set to a value that cannot be used" if name in SECRETS else repr(given[name])[:100]
        found[name] = f"${name} is {value}; expected {expected}"
    return found
