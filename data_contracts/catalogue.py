"""The catalogue of stored tables: their names, their order, and how each is partitioned.

A table exists if this package, or a folder given to `also_in`, contains its contract, `<table>.odcs.yaml`.
Custom properties of a contract are:

- `order`: a whole number by which tables are sorted. We use multiples of ten, so that a new table fits between two others.
- `partitionedBy`: `none`, `strategy`, or `cell` (one budget of one strategy).
- `requires` (optional): what an experiment must have for this table to exist, see `requirements`.
- `role` (optional): a second name of the table. `with_role` finds the table by it.
- `scope` (optional): `home` for a table on all experiments of a home. All other tables belong to one experiment.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal, cast, get_args

Partitions = Literal["none", "strategy", "cell"]

SUFFIX = ".odcs.yaml"
_folders: list[Traversable] = [files(__package__)]


def names() -> tuple[str, ...]:
    """Return the names of all tables of an experiment, sorted by `order`."""
    return tuple(name for name, content in documents().items() if _properties(content).get("scope") != "home")


def partitioned_by(name: str) -> Partitions:
    """Return how a table is partitioned. Raise ValueError if the contract is missing or has no valid `partitionedBy`."""
    value = _property(name, "partitionedBy")
    if value not in get_args(Partitions):
        raise ValueError(
            f"contract {name}: custom property partitionedBy is {value!r}; expected one of {', '.join(get_args(Partitions))}"
        )
    return cast(Partitions, value)


def requirements(name: str) -> frozenset[str]:
    """Return what an experiment must have for this table to exist. The set is empty if every experiment has the table.

    Possible values are `base_model` and `benchmarks` (sections of the experiment file), `confidence` (data that a strategy
    reads), `embeddings` (data that a strategy or the view of found tasks reads), `candidates` (learning rates to choose from),
    `answers` (imported answers), `rounds` (a strategy in rounds) and `held_out` (a benchmark with this name).
    """
    return frozenset(_property(name, "requires") or ())


def with_role(role: str) -> str:
    """Return the name of the table with this role. Raise ValueError if no table has the role."""
    for name in names():
        if _property(name, "role") == role:
            return name
    raise ValueError(
        f"no data contract has the role {role!r}; set it as a custom property of one of {', '.join(names())}"
    )


def document(name: str) -> Mapping[str, Any]:
    """Return the content of a contract file. Raise ValueError if there is no contract with this name."""
    found = documents()
    if name not in found:
        raise ValueError(f"there is no data contract {name!r}; expected one of {', '.join(found)}")
    return found[name]


def documents() -> Mapping[str, Mapping[str, Any]]:
    """Return the content of every contract by table name, sorted by `order`. Raise ValueError if an `order` is not an integer."""
    return _documents(folders())


def folders() -> tuple[Traversable, ...]:
    return tuple(_folders)


@contextmanager
def also_in(folder: Traversable) -> Iterator[None]:
    """Search for contracts in one more folder (a `Path` or a package resource) while the block runs."""
    _folders.append(folder)
    try:
        yield
    finally:
        _folders.remove(folder)


def read(text: str) -> dict[str, Any]:
    """Parse a YAML text. Use libyaml's loader if it is installed: it is ten times as fast as the Python loader."""
    import yaml

    loaded: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


@cache
def _documents(folders: tuple[Traversable, ...]) -> Mapping[str, Mapping[str, Any]]:
    found = {
        entry.name.removesuffix(SUFFIX): read(entry.read_text(encoding="utf-8"))
        for folder in folders
        for entry in folder.iterdir()
        if entry.name.endswith(SUFFIX)
    }
    orders = {name: _properties(content).get("order") for name, content in found.items()}
    for name, order in orders.items():
        if not isinstance(order, int):
            raise ValueError(f"contract {name}: custom property order is {order!r}; expected a whole number such as 60")
    return {name: found[name] for name in sorted(found, key=lambda name: (orders[name], name))}


def _property(name: str, key: str) -> Any:
    return _properties(document(name)).get(key)


def _properties(content: Mapping[str, Any]) -> dict[str, Any]:
    return {one["property"]: one["value"] for one in content.get("customProperties") or ()}
