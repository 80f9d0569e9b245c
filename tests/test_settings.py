"""Environment variables: read in one place, listed by `taskdiv doctor` and in one table of the documentation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.commands import doctor
from taskdiv_assets.storage import machine as settings
from taskdiv_assets.storage.machine import FIELDS, SECRETS, machine

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/deploy/README.md"
BAD = {
    "TASKDIV_CACHE_GB": ("much", "-1", "0", "nan", "inf"),
    "TASKDIV_CHECKPOINT_S": ("often", "-1", "nan"),
    "TASKDIV_EXECUTOR": ("rya", "IN_PROCESS"),
    "TASKDIV_SCORERS": ("two", "-1", "1.5", "1_0", "²", " 2"),
    "TASKDIV_STEP_GPUS": ("two", "-1"),
    "TASKDIV_STEP_MEMORY_GIB": ("24GiB",),
    "TASKDIV_TRAINING_PROCESSES": ("0", "two"),
    "TASKDIV_ACCELERATORS": ("all",),
    "TASKDIV_REPORT_PORT": ("0", "70000", "x"),
    "TASKDIV_TUNING_WORKERS": ("x",),
}


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_a_bad_value_is_one_sentence(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_JUDGE_KEY", "sk-very-secret")
    monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=r"; expected ") as refused:
        machine()
    assert str(refused.value).startswith(f"${name} is {text!r}; expected ") and "\n" not in str(refused.value)
    assert "sk-very" not in repr(refused.value) and refused.value.__suppress_context__


def test_values_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine().scorers == 0 and "scorers" not in machine().model_fields_set
    monkeypatch.setenv("TASKDIV_SCORERS", "8")
    assert machine().scorers == 8 and "scorers" in machine().model_fields_set
    monkeypatch.setenv("TASKDIV_SCORERS", "")  # as if it were not set
    assert machine().scorers == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # an empty list hides every GPU
    assert machine().visible_gpus == ""


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_no_secret_is_shown_whatever_it_is(text: str) -> None:
    rows = settings.listed({"TASKDIV_JUDGE_KEY": text})
    (row,) = (row for row in rows if row.name == "TASKDIV_JUDGE_KEY")
    assert (row.value, row.is_set, row.problem) == ("set, not shown", True, "")
    assert {"TASKDIV_JUDGE_KEY", "TASKDIV_ANNOTATOR_KEY"} == SECRETS


def test_the_doctor_says_every_bad_value_and_goes_on_with_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"TASKDIV_SCORERS": "two", "TASKDIV_REPORT_PORT": "0"}
    for name, text in wrong.items():
        monkeypatch.setenv(name, text)
    findings = doctor.examine(wrong, is_offline=True)
    found = [next(findings), next(findings)]
    assert [(one.level, one.what, one.found.partition(" ")[0]) for one in found] == [
        ("broken", "environment", "$TASKDIV_SCORERS"),
        ("broken", "environment", "$TASKDIV_REPORT_PORT"),
    ]
    assert next(findings).what == "Python" and machine().scorers == 0
    findings.close()
    with pytest.raises(ValueError, match="TASKDIV_SCORERS"):
        machine()


def table() -> str:
    """Return the documentation's table, built from the settings."""
    rows = [
        f"| `{row.name}` | {'' if row.value == 'not set' else f'`{row.value}`'} | {row.purpose} |"
        for row in settings.listed({})
    ]
    return "\n".join(["| variable | default | what for |", "|---|---|---|", *rows])


def test_the_documentation_has_the_table_of_the_class_and_no_other() -> None:
    text = PAGE.read_text()
    assert table() in text, f"put this into {PAGE}:\n{table()}"
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        rows = [line for line in path.read_text().splitlines() if line.startswith("| `TASKDIV_")]
        assert path == PAGE or not rows, f"{path} has a second table of variables: {rows}"


# --- one place that reads -------------------------------------------------------------------------------------------

# What else may touch the environment: it writes for libraries and child processes, or hands the whole of it on.
WRITES = ("setdefault", "update", "pop")


def reads(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of a module that read an environment variable."""
    whole = {id(node) for parent in ast.walk(tree) for node in handed_on(parent)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {n.name for n in node.names} & {"environ", "getenv"}
        ):
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr == "getenv":
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr == "environ" and id(node) not in whole:
            yield node.lineno


def handed_on(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes `os.environ` in a node that writes a variable, or passes all variables on."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.value
    if isinstance(node, ast.Call):
        yield from node.args
        yield from (keyword.value for keyword in node.keywords)
        if isinstance(node.func, ast.Attribute) and node.func.attr in WRITES:
            yield node.func.value
    if isinstance(node, ast.Dict):  # {**os.environ, …}
        yield from (value for key, value in zip(node.keys, node.values, strict=True) if key is None)


def test_only_settings_reads_environment_variables() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for package in ("taskdiv_assets", "reports", "data_contracts")
        for path in (ROOT / package).rglob("*.py")
        if (lines := [*reads(ast.parse(path.read_text()))])
    }
    assert set(found) == {"taskdiv_assets/storage/machine.py", "taskdiv_assets/commands/doctor/__init__.py"}, found
    assert (
        len(found["taskdiv_assets/commands/doctor/__init__.py"]) == 1
    )  # it takes bad variables away, and puts them back


@pytest.mark.parametrize(
    "text", ["os.environ.get('A')", "os.environ['A']", "os.getenv('A')", "'A' in os.environ", "from os import environ"]
)
def test_the_test_sees_each_way_to_read(text: str) -> None:
    assert [*reads(ast.parse(text))]
    assert not [
        *reads(ast.parse("os.environ['A'] = '1'; os.environ.update(A='1'); run(env={**os.environ}); f(os.environ)"))
    ]
