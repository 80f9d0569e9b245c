"""Reader and writer of YAML by the core schema of YAML 1.2, without octal and hexadecimal numbers and with limits on size.

PyYAML reads YAML 1.1: it reads `010` as 8, `1:30` as 90, `1_000` as 1000 and `yes` as true. This module reads only decimal
numbers, infinity and NaN as numbers, and only `true` and `false` (also `True` and `TRUE`) as booleans. `read` raises an error
for a file that would need minutes or all memory, such as a file with aliases of aliases.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

LENGTH_MAX = 1_000_000  # characters; the longest experiment file of this repository has 6,000
DEPTH_MAX = 32  # levels of nested sections, after aliases are expanded
NODES_MAX = 50_000  # keys and values, after aliases are expanded; PyYAML reads this number in 4 s
ENTRIES_MAX = 10_000  # entries of one list
DIGITS_MAX = 400  # digits of one number; Python raises an error above 4,300
_CORE = "tag:yaml.org,2002:"
_STR, _MERGE = f"{_CORE}str", f"{_CORE}merge"
_INT = r"[-+]?(?:0|[1-9][0-9]*)"
_FLOAT = r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_RESOLVERS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", rf"{_FLOAT}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
)


class YamlError(ValueError):
    """Error for a file that `read` does not accept. The message names the file and, if known, the line."""


class Document(NamedTuple):
    """The content of a file."""

    value: Any  # mappings, lists, texts, numbers, booleans and None; all keys of mappings are text
    root: yaml.Node | None  # the YAML nodes contain line numbers; None for an empty file
    repeated: tuple[tuple[str | int, ...], ...]  # paths of keys that occur twice in a mapping; the last one counts


def read(text: str, place: str, *, has_functions: bool = False) -> Document:
    """Read the text of a YAML file. `place` is the name of the file in error messages.

    `has_functions` accepts the task files of lm-eval. Then a value with a tag of an application, such as `!function module.name`,
    is read as a text that starts with this tag, and a list may have more than `ENTRIES_MAX` entries.

    Raises:
        YamlError: the text is not YAML, exceeds the limits, or has a tag or a key that is not accepted.
    """
    if len(text) > LENGTH_MAX:
        raise YamlError(f"{place} has {len(text):,} characters; expected at most {LENGTH_MAX:,}. Is it the right file?")
    loader = None
    try:
        loader = _Loader(text, has_functions=has_functions)
        root = loader.get_single_node()
        repeated = tuple(_repeated(root))
        return Document(None if root is None else loader.construct_document(root), root, repeated)
    except _MistakeError as mistake:
        raise YamlError(f"{place}:{mistake.line}: {mistake}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{error.character:04X}" if isinstance(error.character, int) else repr(error.character)
        raise YamlError(f"{place}:{line} is not valid YAML: the character {character} may not be in it") from None
    except yaml.MarkedYAMLError as error:
        raise YamlError(f"{place}{_line_of(error)} is not valid YAML: {_said(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()


def written(value: object) -> str:
    """Return a JSON value as one line of YAML. Both `read` and readers of YAML 1.1 restore the same value.

    >>> written({"id": "010", "task": "1e3", "prompt": "text"})
    "{id: '010', task: '1e3', prompt: text}"
    """
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def document(value: object) -> str:
    """Return a JSON value as a YAML document of many lines. `read` restores the same value.

    >>> document({"id": "829e4567", "budgets": [8]})
    "id: '829e4567'\\nbudgets:\\n- 8\\n"
    """
    return yaml.dump(value, Dumper=_Dumper, default_flow_style=False, sort_keys=False, allow_unicode=True, width=100)


class _MistakeError(Exception):
    def __init__(self, line: int, said: str) -> None:
        super().__init__(said)
        self.line = line


class _Loader(yaml.SafeLoader):
    """YAML loader for the core schema. It raises an error as soon as a text has more nodes, levels or entries than allowed."""

    def __init__(self, text: str, *, has_functions: bool) -> None:
        super().__init__(text)
        self.has_functions = has_functions
        self._nodes_n = self._depth = self._deepest = 0
        self._sizes: dict[int, tuple[int, int]] = {}  # node id: (nodes in the node, levels of the node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML has no types
        line = event.start_mark.line + 1
        is_bounded = isinstance(parent, yaml.SequenceNode) and not self.has_functions
        if is_bounded and index >= ENTRIES_MAX:
            raise _MistakeError(line, f"this list has more than {ENTRIES_MAX:,} entries; expected at most so many")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(super().compose_node(parent, index), event.anchor, line)
        self._check_tag(event, line)
        self._grow(1, 1, line)
        nodes_n, deepest = self._nodes_n - 1, self._deepest
        self._depth += 1
        self._deepest = self._depth
        node = super().compose_node(parent, index)
        self._sizes[id(node)] = (self._nodes_n - nodes_n, self._deepest - self._depth + 1)
        self._depth -= 1
        self._deepest = max(deepest, self._deepest)
        return node

    def _alias(self, node: yaml.Node | None, anchor: str | None, line: int) -> yaml.Node | None:
        if id(node) not in self._sizes:
            raise _MistakeError(
                line, f"the alias *{anchor} is inside the section that it repeats; write the values out"
            )
        self._grow(*self._sizes[id(node)], line)
        return node

    def _grow(self, nodes_n: int, levels_n: int, line: int) -> None:
        self._nodes_n += nodes_n
        self._deepest = max(self._deepest, self._depth + levels_n)
        if self._depth + levels_n > DEPTH_MAX:
            raise _MistakeError(
                line, f"sections are nested more than {DEPTH_MAX} deep; expected at most so many levels"
            )
        if self._nodes_n > NODES_MAX:
            said = f"the file has more than {NODES_MAX:,} keys and values (an alias counts as all that it repeats)"
            raise _MistakeError(line, f"{said}; expected at most so many")

    def _check_tag(self, event: Any, line: int) -> None:
        tag = event.tag
        if tag in (None, "!") or (self.has_functions and not tag.startswith(_CORE)):
            return
        kinds = ((yaml.SequenceStartEvent, {"seq"}), (yaml.MappingStartEvent, {"map"}))
        taken = next((names for kind, names in kinds if isinstance(event, kind)), {"str"})
        if isinstance(event, yaml.ScalarEvent):
            resolved: str = self.resolve(yaml.ScalarNode, event.value, (True, False))  # type: ignore[no-untyped-call]  # as above
            plain = resolved.removeprefix(_CORE)
            taken = taken | {plain} - {"merge"} | ({"float"} if plain == "int" else set())
        if tag.removeprefix(_CORE) not in taken:
            said = f"!!{tag.removeprefix(_CORE)}" if tag.startswith(_CORE) else tag
            raise _MistakeError(line, f"the tag {said} is not taken here; write plain values, lists and sections")


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes a text if YAML 1.1 or the core schema would read it as another type."""


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > DIGITS_MAX:
        line = node.start_mark.line + 1
        raise _MistakeError(line, f"this number has {len(node.value):,} digits; expected at most {DIGITS_MAX}")
    return int(node.value)


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> str:
    return f"!{suffix} {node.value}"


_Loader.yaml_implicit_resolvers = {}  # remove the resolvers of YAML 1.1
for _name, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(f"{_CORE}{_name}", re.compile(rf"^(?:{_pattern})\Z"), _first)
_Loader.add_constructor(f"{_CORE}int", _int)
_Loader.add_multi_constructor("!", _function)
_Dumper.add_implicit_resolver(f"{_CORE}float", re.compile(rf"^(?:{_FLOAT}|0o[0-7]+)\Z"), list("-+.0123456789"))


def _repeated(node: yaml.Node | None, location: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each key that already occurred in its mapping. Set the tag of every key, except `<<`, to text."""
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _repeated(value, (*location, index))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            kind = "list" if isinstance(key, yaml.SequenceNode) else "section"
            raise _MistakeError(key.start_mark.line + 1, f"a {kind} is used as a key; expected a word before the colon")
        if key.tag != _MERGE:
            key.tag = _STR
        if key.value in seen:
            yield (*location, key.value)
        seen.add(key.value)
        yield from _repeated(value, (*location, key.value))


def _line_of(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return "" if mark is None else f":{mark.line + 1}"


def _said(error: yaml.MarkedYAMLError) -> str:
    """Return the library's message without its excerpt of the file. The excerpt may contain a password."""
    return ", ".join(" ".join(part.split()) for part in (error.context, error.problem) if part)
