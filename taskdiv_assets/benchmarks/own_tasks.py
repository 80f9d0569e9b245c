"""Find the data files that a user's own task files name, and the reasons why lm-eval skips a task file.

lm-eval resolves relative paths of data from the current directory. This project resolves them from the YAML file that contains
the path. So lm-eval reads a generated YAML file that includes the user's file and contains absolute paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsspec.core import has_magic

from data_contracts import plain_yaml

# Readers of `datasets` for local files. For any other `dataset_path`, `data_files` are files inside that data set.
FILE_READERS = frozenset({"json", "csv", "parquet", "text", "arrow", "pandas", "xml", "webdataset", "imagefolder"})


def bind_data(index: Mapping[str, Any], names: tuple[str, ...], folder: Path, generated: Path) -> None:
    """Make lm-eval find the data of the named tasks, groups and tags from any current directory.

    For this, YAML files with absolute paths are written to `generated`.

    Raises:
        ValueError: data do not exist, are outside the user's `folder` or come from a script, or an inline member of a group has
            a relative path to its data.
    """
    root = folder.resolve()
    for name, entry in members(index, names):
        path = entry.yaml_path and Path(entry.yaml_path).resolve()
        if path and path.is_relative_to(root):
            _refuse_inline_data(name, entry.cfg or {}, path)
            if changes := changed_paths(name, path, entry.cfg or {}, root):
                entry.yaml_path = _generated(path, changes, generated)


def members(index: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the name and the entry of each name in `names`, and of each member of the groups and tags among them.

    Groups may be nested. Nothing is yielded twice, and a name that is not in `index` is skipped.
    """
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        entry = index.get(name)
        if entry is None or name in seen:
            continue
        seen.add(name)
        yield name, entry
        inside = (entry.cfg or {}).get("task")
        waiting += [str(_name_of(one)) for one in inside] if isinstance(inside, list) else []
        waiting += sorted(entry.tags) if entry.yaml_path is None else []


def _name_of(item: object) -> object:
    return item.get("task", item.get("group")) if isinstance(item, dict) else item


def changed_paths(name: str, path: Path, cfg: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return the keys of a task's YAML that need absolute paths, with their new values.

    `cfg` is the content of the YAML file, with the content of included files. Raise ValueError if the data come from a script,
    do not exist, or are outside the folder `root`.
    """
    source = cfg.get("dataset_path")
    if not isinstance(source, str):
        return {}
    label = f"task {name!r} ({path})"
    if source.endswith(".py"):
        raise ValueError(
            f"{label} loads its data by the script {source!r}, which `datasets` no longer runs; "
            "write the rows to a file, such as `dataset_path: json` with `data_files`"
        )
    is_file = source in FILE_READERS
    kwargs = cfg.get("dataset_kwargs")
    kwargs = kwargs if isinstance(kwargs, dict) else {}
    stated = _folder_of(path, "dataset_kwargs" if is_file else "dataset_path") or path.parent
    if is_file:
        key = "data_dir" if "data_dir" in kwargs else "data_files"  # files are relative to `data_dir`
        bound = _bound(kwargs.get(key), label, stated, root)
        return {} if bound == kwargs.get(key) else {"dataset_kwargs": {**kwargs, key: bound}}
    if not source.startswith(".") and not stated.joinpath(source).exists():
        return {}
    bound = _bound(source, label, stated, root)
    return {} if bound == source else {"dataset_path": bound}


def _bound(value: Any, label: str, folder: Path, root: Path) -> Any:
    if isinstance(value, dict):
        return {key: _bound(one, label, folder, root) for key, one in value.items()}
    if isinstance(value, list):
        return [_bound(one, label, folder, root) for one in value]
    if not isinstance(value, str) or "://" in value or value.startswith("~") or Path(value).is_absolute():
        return value
    found = folder / value
    if not (any(folder.glob(value)) if has_magic(value) else found.exists()):
        raise ValueError(
            f"{label} names the data {value!r}, but {found} does not exist; paths are relative to the YAML file"
        )
    if not has_magic(value) and not found.resolve().is_relative_to(root):
        raise ValueError(
            f"{label} names the data {value!r}, which are outside the benchmark's folder {root}; move them into it, so that "
            "a change of the data makes the scores stale"
        )
    return str(found)


def _folder_of(path: Path, key: str, seen: frozenset[Path] = frozenset()) -> Path | None:
    """Return the folder of the YAML file that sets `key`; None if no file does.

    The file `path` is read first, and then the files that it includes, from the last to the first.
    """
    raw = _read(path)
    if not isinstance(raw, dict) or path in seen:
        return None
    if key in raw:
        return path.parent
    includes = raw.get("include", [])
    for one in reversed(includes if isinstance(includes, list) else [includes]):
        if found := _folder_of((path.parent / str(one)).resolve(), key, seen | {path}):
            return found
    return None


def _read(path: Path) -> Any:
    """Return the content of a task file without executing code: `!function` is read as text."""
    return plain_yaml.read(path.read_text(encoding="utf-8"), str(path), has_functions=True).value


def _unread(path: Path, error: ValueError) -> str:
    return str(error) if isinstance(error, plain_yaml.YamlError) else f"{path} is not valid YAML: {error}"


def _refuse_inline_data(name: str, cfg: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError if an inline member of a group has relative data paths: no YAML file is generated for inline members."""
    inside = cfg.get("task")
    for item in inside if isinstance(inside, list) else []:
        if not isinstance(item, dict):
            continue
        kwargs, source = item.get("dataset_kwargs"), item.get("dataset_path")
        data = [kwargs.get(key) for key in ("data_files", "data_dir")] if isinstance(kwargs, dict) else []
        is_here = isinstance(source, str) and source not in FILE_READERS and path.parent.joinpath(source).exists()
        relative = next(_relative([*data, source if is_here else None]), None)
        if relative is not None:
            raise ValueError(
                f"group {name!r} ({path}) names the data {relative!r} of its member {_name_of(item)!r}; give that task a YAML "
                "file of its own, or state the path in full"
            )


def _relative(value: Any) -> Iterator[str]:
    """Yield the relative paths in a value, which may contain dicts and lists."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _relative(one)
    elif isinstance(value, str) and "://" not in value and not Path(value).is_absolute():
        yield value


def _generated(path: Path, changes: Mapping[str, Any], folder: Path) -> Path:
    """Write a YAML file that includes a user's file and changes some keys. The values are JSON, which is valid YAML."""
    made = folder / f"{len(list(folder.iterdir()))}.yaml"
    content = {"include": str(path), **changes}
    made.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in content.items()), encoding="utf-8")
    return made


def why_not_found(name: str, folder: Path) -> str:
    """Return the reason why lm-eval skipped the task `name` of a folder; empty if the folder's files show no reason."""
    for path in sorted(folder.rglob("*.y*ml")):
        try:
            raw = _read(path)
        except ValueError as error:
            if name in path.read_text(encoding="utf-8", errors="replace"):
                return _unread(path, error)
            continue
        if not isinstance(raw, dict) or name not in (raw.get("task"), raw.get("group")):
            continue
        if path.suffix == ".yml":
            return f"lm-eval reads files that end in .yaml; rename {path}"
        if problem := _broken_include(path):
            return problem
    return ""


def _broken_include(path: Path, seen: frozenset[Path] = frozenset()) -> str:
    """Return an error text about a missing, invalid or circular include; empty if there is none."""
    try:
        raw = _read(path)
    except ValueError as error:
        return _unread(path, error)
    includes = raw.get("include", []) if isinstance(raw, dict) else []
    for one in includes if isinstance(includes, list) else [includes]:
        other = (path.parent / str(one)).resolve()
        if not other.is_file():
            return f"{path} includes {str(one)!r}, but there is no file {other}"
        if other in seen:
            return f"{path} includes {str(one)!r}, which includes it in turn"
        if problem := _broken_include(other, seen | {path}):
            return problem
    return ""
