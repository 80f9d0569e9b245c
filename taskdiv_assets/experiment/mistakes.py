"""Sentences for pydantic's errors in an experiment file. They state what is expected, what was found and what to add."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.experiment.annotation_settings import NUL_FREE
from taskdiv_assets.experiment.declaration import OWNER_PATTERN, Experiment
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.experiment.robustness_settings import FACTOR_PATTERN

DIGITS_ADVICE = ", which is text: a number is written in plain decimal digits, without quotes or leading zeros"
SHOWN_LENGTH_MAX = 80  # largest number of characters of a shown value
# Descriptions of all patterns in settings classes; a test checks that no pattern is missing.
PATTERN_WORDS: Mapping[str, str] = {
    NAME_PATTERN: "lower-case letters, digits and _",
    OWNER_PATTERN: "an e-mail address, or a team as `team:name`",
    r"\S": "text that is not blank",
    NUL_FREE: "text without the character U+0000",
    FACTOR_PATTERN: "a factor such as x0.5",
}
_KINDS_OF_ERRORS: Mapping[str, Sequence[str]] = {
    "a whole number": ("int_type", "int_parsing", "int_from_float"),
    "a number": ("float_type", "float_parsing"),
    "a finite number": ("finite_number",),
    "true or false": ("bool_type", "bool_parsing"),
    "text (in quotes if it looks like a number)": ("string_type",),
    "a list such as [a, b]": ("list_type", "tuple_type"),
    "a section such as {key: value}": ("dict_type", "model_type", "model_attributes_type"),
    "nothing": ("none_required",),
}
TYPE_WORDS = {kind: words for words, kinds in _KINDS_OF_ERRORS.items() for kind in kinds}
LIMIT_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda of: f"more than {of['gt']:g}",
    "greater_than_equal": lambda of: f"at least {of['ge']:g}",
    "less_than": lambda of: f"less than {of['lt']:,g}",
    "less_than_equal": lambda of: f"at most {of['le']:,g}",
    "too_short": lambda of: f"at least {_counted(of['min_length'])}",
    "too_long": lambda of: f"at most {_counted(of['max_length'])}",
    "string_too_short": lambda of: f"at least {of['min_length']} character(s)",
    "string_too_long": lambda of: f"at most {of['max_length']} characters",
    "string_pattern_mismatch": lambda of: PATTERN_WORDS.get(of["pattern"], f"text of the form {of['pattern']}"),
    "literal_error": lambda of: str(of["expected"]),
}
# Example lines for missing keys.
EXAMPLES: Mapping[str, str] = {
    "model": "model: NAME",
    "calls": "calls: 500",
    "share": "share: 0.2",
    "name": "name: my_questions",
    "task": "task: refunds",
    "pool": "pool: {reader: table, path: questions.csv, columns: {prompt: question}}",
    "strategies": "strategies: [random]",
    "budgets": "budgets: [200]",
    "cost": "cost: [600, 1200]",
    "reader": "reader: table",
    "prompt": "prompt: question",
    "base_model": "base_model: {path: FOLDER}",
    "seeds": "seeds: [0, 1, 2]",
    "tuning": "tuning: {learning_rate: 2.0e-4, epochs: 3}",
    "benchmarks": "benchmarks: [{name: mmlu}]",
    "primary": "primary: {strategy: task_diversity, reference: random, benchmark: mmlu, metric: acc}",
    "learning_rate": "learning_rate: 2.0e-4",
    "adjudicator": "adjudicator: eva",
    "epochs": "epochs: 3",
    "choose": "choose: [1.0e-4, 3.0e-4]",
    "after": "after: [500]",
    "tolerance": "tolerance: 0.1",
    "strategy": "strategy: task_diversity",
    "benchmark": "benchmark: mmlu",
    "metric": "metric: acc",
    "metrics": "metrics: [acc]",
}
# Example lines for a missing `name` inside a section.
NAME_EXAMPLES: Mapping[str | int, str] = {"benchmarks": "name: mmlu", "confidence": "name: smaller_model"}


class Problem(NamedTuple):
    """One mistake of an experiment file."""

    location: tuple[str | int, ...]
    message: str

    @property
    def name(self) -> str:
        """The location in dotted form, such as `pool.columns`; `the file` if the location is empty."""
        return ".".join(str(part) for part in self.location) or "the file"


def in_words(errors: Iterable[Mapping[str, Any]], raw: object) -> Iterator[Problem]:
    """Turn pydantic's errors into problems.

    A value that fits no type of a union gives one problem. If there are errors inside the value, only these give problems.
    `raw` is the parsed YAML file. It shows which parts of a location are keys; the others are names of a union's alternatives.
    """
    expected: dict[tuple[str | int, ...], list[str]] = {}
    found: dict[tuple[str | int, ...], object] = {}
    others: list[Problem] = []
    for error in errors:
        words = _expected(error)
        if words is None:
            others.append(Problem(error["loc"], _sentence(error)))
            continue
        place = _in_file(error["loc"], raw)
        found[place] = error.get("input")
        if words not in expected.setdefault(place, []):
            expected[place].append(words)
    inner = [*expected, *(_in_file(problem.location, raw) for problem in others)]
    for place, wanted in expected.items():
        if not any(len(other) > len(place) and other[: len(place)] == place for other in inner):
            is_number = any("number" in words for words in wanted) and isinstance(found[place], str)
            advice = DIGITS_ADVICE if is_number and any(map(str.isdigit, str(found[place]))) else ""
            yield Problem(place, f"expected {' or '.join(wanted)}, found {_shown(found[place])}{advice}")
    yield from others


def example(*location: str | int) -> str:
    """Return an example line, in backticks, for the key at a location of the file."""
    section, key = location[0], str(location[-1])
    of_section = NAME_EXAMPLES.get(section) if key == "name" and len(location) > 1 else None
    return f"`{of_section or EXAMPLES.get(key, f'{key}: …')}`"


def _expected(error: Mapping[str, Any]) -> str | None:
    kind = error["type"]
    return LIMIT_WORDS[kind](error["ctx"]) if kind in LIMIT_WORDS else TYPE_WORDS.get(kind)


def _sentence(error: Mapping[str, Any]) -> str:
    location, kind = error["loc"], error["type"]
    if kind == "missing":
        return f"is missing; add {example(*location)}"
    if kind == "extra_forbidden":
        return _unknown_key(location)
    message = str(error["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return message
    return f"{message[0].lower()}{message[1:]}, found {_shown(error.get('input'))}"


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[:SHOWN_LENGTH_MAX]}…"


def _counted(entries_n: int) -> str:
    return f"{entries_n} {'entry' if entries_n == 1 else 'entries'}"


def _in_file(location: Sequence[str | int], raw: object) -> tuple[str | int, ...]:
    """Return a location without the parts that are not in the file, such as pydantic's names of alternatives."""
    kept: list[str | int] = []
    node: Any = raw
    for part in location:
        is_there = part in node if isinstance(node, dict) else isinstance(node, list) and isinstance(part, int)
        if is_there:
            kept.append(part)
            node = node[part]
    return tuple(kept)


def _unknown_key(location: Sequence[str | int]) -> str:
    *section, key = location
    keys = sorted({field.alias or name for model in _models(section) for name, field in model.model_fields.items()})
    near = difflib.get_close_matches(str(key), keys, 1)
    if near:
        return f"unknown key; did you mean `{near[0]}`?"
    return f"unknown key; expected some of {', '.join(keys)}" if keys else "unknown key; this section takes none"


def _models(section: Sequence[str | int]) -> list[type[BaseModel]]:
    """Return the possible classes of a section. A union gives several classes if the location does not decide which one it is."""
    found: list[type[BaseModel]] = [Experiment]
    for part in section:
        fields = {field.alias or name: field for model in found for name, field in model.model_fields.items()}
        if part == "strategies":  # `Experiment` moves the own orders to another field
            found = [OwnOrder]
        elif part in fields:
            found = list(classes_in(fields[str(part)].annotation))
        elif not isinstance(part, int):  # the tag of a union, or the name of a class in a union
            found = [model for model in found if part in (model.__name__, *_names(model))] or found
    return found


def _names(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("name")
    return () if field is None else get_args(field.annotation)


def classes_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield every settings class in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from classes_in(part)
