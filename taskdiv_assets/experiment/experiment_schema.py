"""The JSON Schema of experiment files for editors, made from the settings classes and their docstrings.

Contradictions between sections are not described; `experiment_file` finds them.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

from pydantic import BaseModel

from taskdiv_assets.experiment.declaration import Experiment
from taskdiv_assets.experiment.mistakes import EXAMPLES, PATTERN_WORDS, classes_in
from taskdiv_assets.selection import STRATEGIES

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ATTRIBUTE = re.compile(r"^(\w+): (.+(?:\n +\S.*)*)", re.MULTILINE)


def schema() -> dict[str, Any]:
    made = Experiment.model_json_schema(by_alias=True)
    classes = {model.__name__: model for model in _classes(Experiment)}
    for name, section in (("Experiment", made), *made["$defs"].items()):
        _describe(section, classes.get(name))
    items = made["properties"]["strategies"]["items"]
    for one in (items, *items.get("anyOf", ()), *items.get("oneOf", ())):
        if one.get("type") == "string":
            one["examples"] = [*STRATEGIES]
    # With `rounds`, a file has names of its own among the strategies, which a schema cannot look up.
    known = {"if": {"type": "string"}, "then": {"enum": [*STRATEGIES]}}
    made |= {"if": {"required": ["rounds"]}, "else": {"properties": {"strategies": {"items": known}}}}
    made["required"] = [key for key in made["required"] if key in made["properties"]]
    return {"$schema": DIALECT, **made, "title": "Experiment of taskdiv"}


def as_json() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def attributes(docstring: str) -> dict[str, str]:
    """Return the descriptions in the section `Attributes` of a docstring, by attribute name.

    This section must be the last one. If another section follows, the result is empty.

    >>> attributes("A thing.\\n\\nAttributes:\\n    a: the first\\n        of two.\\n    b: the other.\\n")
    {'a': 'the first of two.', 'b': 'the other.'}
    """
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    return {name: " ".join(text.split()) for name, text in ATTRIBUTE.findall(dedent(section))}


def _describe(section: dict[str, Any], model: type[BaseModel] | None) -> None:
    """Add descriptions to a section of the schema and to its keys, and remove the titles of the keys.

    The descriptions come from the docstrings of `model` and its base classes, from PATTERN_WORDS and from EXAMPLES.
    """
    docstring = "" if model is None else model.__doc__ or ""
    if docstring:
        section["description"] = " ".join(inspect.cleandoc(docstring).partition("\n\n")[0].split())
    said: dict[str, str] = {}
    for base in reversed(() if model is None else model.__mro__):
        said.update(attributes(base.__doc__ or ""))
    aliases = {} if model is None else {field.alias: name for name, field in model.model_fields.items() if field.alias}
    for key, part in section.get("properties", {}).items():
        part.pop("title", None)
        words = said.get(aliases.get(key, key))
        pattern = PATTERN_WORDS.get(part.get("pattern", ""))
        described = [text for text in (words, pattern and f"Expected: {pattern}.") if text]
        if described:
            part.setdefault("description", " ".join(described))
        if key in section.get("required", ()) and key in EXAMPLES and key != "name":
            part.setdefault("description", f"For example `{EXAMPLES[key]}`.")


def _classes(model: type[BaseModel], seen: tuple[type[BaseModel], ...] = ()) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in classes_in(field.annotation):
            if part not in seen:
                yield from _classes(part, (*seen, model))
