"""Loading the definitions stays quick: no heavy module is imported until a step needs it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "lm_eval",
    "great_expectations",
    "matplotlib.pyplot",
    "datasets",
    "scipy.stats",
)


def loaded(statement: str) -> set[str]:
    """Return the heavy modules that a fresh interpreter has imported after running a statement."""
    code = f"{statement}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(run.stdout.split())


def test_definitions_import_nothing_heavy() -> None:
    assert loaded("import taskdiv_assets.definitions") == set()


def test_the_command_line_imports_nothing_heavy() -> None:
    assert (
        loaded("import taskdiv_assets.cli, taskdiv_assets.commands.planning, taskdiv_assets.commands.terminal") == set()
    )


def test_reports_import_neither_dagster_nor_torch() -> None:
    code = (
        "import reports, reports.statistics, reports.results, sys\nprint(*{m.partition('.')[0] for m in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    names = set(run.stdout.split())
    assert not names & {
        "dagster",
        "torch",
        "taskdiv_assets",
        "pandas",
        "great_expectations",
        "open_data_contract_standard",
    }
