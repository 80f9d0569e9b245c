"""The order of the code: layers of imports, no cycle, few rooms, small files and functions, Dagster's private parts isolated."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from taskdiv_assets.orchestration import dagster_private

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("taskdiv_assets", "reports", "data_contracts")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LAYERS_MAX, ROOMS_MAX, LOOSE_MAX = 12, 22, 5
FILE_LINES_MAX, FUNCTION_LINES_MAX = 400, 50
NAMES_AN_ASSET_MAX = 5  # files that name one asset, `task_confidence`: one asset is declared in one place


def room_of(module: str) -> str:
    """Return the room of a module: its first name below `taskdiv_assets`, or another package.

    >>> room_of("taskdiv_assets.storage.store"), room_of("reports.page")
    ('storage', 'reports')
    """
    parts = module.split(".")
    return parts[1] if parts[0] == "taskdiv_assets" and len(parts) > 1 else parts[0]


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in FILES:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


@pytest.fixture(scope="module")
def imports() -> dict[tuple[str, str], list[str]]:
    """Return imports between rooms with the modules that make them. Late imports and those for annotations count too."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    found: dict[tuple[str, str], list[str]] = {}
    for module in sorted(graph.modules):
        for other in sorted(graph.find_modules_directly_imported_by(module)):
            pair = (room_of(module), room_of(other))
            if pair[0] != pair[1] and "taskdiv_assets" not in pair:
                found.setdefault(pair, []).append(f"{module} -> {other}")
    return found


def test_imports_follow_the_layers_of_pyproject() -> None:
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout


def test_there_are_few_layers_and_every_room_has_one(imports: dict[tuple[str, str], list[str]]) -> None:
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert len(contract["layers"]) <= LAYERS_MAX
    rooms = [room_of(module.strip()) for layer in contract["layers"] for module in layer.split("|")]
    assert len(rooms) == len(set(rooms))
    assert (
        set(rooms) == {room for pair in imports for room in pair} == {*loose(), *folders(), "reports", "data_contracts"}
    )


def loose() -> list[str]:
    return [path.stem for path in (ROOT / "taskdiv_assets").glob("*.py") if path.stem != "__init__"]


def folders() -> list[str]:
    return [path.parent.name for path in (ROOT / "taskdiv_assets").glob("*/__init__.py")]


def test_there_are_few_rooms_and_loose_modules() -> None:
    assert len(loose()) <= LOOSE_MAX, loose()
    assert len(loose()) + len(folders()) + 2 <= ROOMS_MAX


def test_no_two_rooms_import_each_other(imports: dict[tuple[str, str], list[str]]) -> None:
    """Directly or over others: what is left after removing, again and again, the rooms that import no other."""
    above = {pair[0]: {other for room, other in imports if room == pair[0]} for pair in imports}
    while free := [room for room, others in above.items() if not others & set(above)]:
        for room in free:
            del above[room]
    circle = [lines for pair, lines in imports.items() if pair[0] in above and pair[1] in above]
    assert not above, circle


def test_no_file_name_stands_in_two_rooms() -> None:
    seen: dict[str, list[str]] = {}
    for path in FILES:
        if path.stem != "__init__":
            seen.setdefault(path.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in seen.items() if len(paths) > 1}


def test_no_file_is_too_long() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: n for name, n in lines.items() if n > FILE_LINES_MAX}


def test_no_function_is_too_long() -> None:
    long = [
        f"{name}:{node.lineno} {node.name} has {n} lines"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (n := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long


def test_one_asset_is_named_in_few_files() -> None:
    named = [str(path.relative_to(ROOT)) for path in FILES if "task_confidence" in path.read_text()]
    assert len(named) <= NAMES_AN_ASSET_MAX, named


# --- Dagster's private parts -----------------------------------------------------------------------------------------


def private_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (
            name for name in names if name.startswith(("dagster._", "dagster_shared", "dagster_k8s._", "dagster_ray._"))
        )


def test_private_parts_of_dagster_are_imported_in_one_module() -> None:
    found = {name for name, tree in trees() if [*private_imports(tree)]}
    assert found == {"taskdiv_assets/orchestration/dagster_private.py"}


@pytest.mark.parametrize("kind", dagster_private.USED, ids=lambda kind: kind.__name__)
def test_dagster_still_has_each_attribute_that_is_used(kind: type) -> None:
    """An upgrade of Dagster that takes one away fails here, by its name; `dagster_private` says what breaks without it."""
    source = inspect.getsource(kind)
    gone = [name for name in dagster_private.USED[kind] if not hasattr(kind, name) and f"self.{name} " not in source]
    assert not gone, f"{kind.__module__}.{kind.__name__} no longer has {', '.join(gone)}"
