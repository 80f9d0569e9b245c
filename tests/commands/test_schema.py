"""The JSON Schema of experiment files accepts all files that the package accepts, and rejects common mistakes."""

import json
from pathlib import Path

import jsonschema  # comes with great-expectations
import pytest
import yaml
from typer.testing import CliRunner

from taskdiv_assets.cli import app
from taskdiv_assets.experiment import experiment_file, experiment_schema
from tests.home import EXPERIMENTS

FILES = [*sorted(experiment_file.BUILT_IN.glob("*.yaml")), *sorted(EXPERIMENTS.glob("*.yaml"))]


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    schema = experiment_schema.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_file_of_the_project_is_valid(validator: jsonschema.protocols.Validator, path: Path) -> None:
    assert [error.message for error in validator.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize(
    "line",
    [
        "budgts: [2]",
        "strategies: [randm]",
        "budgets: [0]",
        "purpose: stdy",
        "task_labels: {form: column}",
        "benchmarks: [{name: mmlu, few_shot: 9}]",
        "name: Mini Ature",
    ],
)
def test_an_editor_sees_a_mistake(validator: jsonschema.protocols.Validator, line: str) -> None:
    raw = {**yaml.safe_load(FILES[0].read_text()), **yaml.safe_load(line)}
    assert not validator.is_valid(raw)


def test_keys_are_described_by_the_classes(validator: jsonschema.protocols.Validator) -> None:
    schema = experiment_schema.schema()
    assert "campaign buys labels" in schema["properties"]["purpose"]["description"]
    assert schema["$defs"]["TaskLabels"]["properties"]["from"]["enum"] == ["column", "mapping", "rules", "discovered"]
    assert "random" in json.dumps(schema["properties"]["strategies"])


def test_the_command_prints_the_schema_or_writes_it(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema"])
    assert json.loads(printed.stdout) == experiment_schema.schema()
    file = tmp_path / "schema.json"
    assert CliRunner().invoke(app, ["schema", "-o", str(file)]).exit_code == 0
    assert json.loads(file.read_text()) == experiment_schema.schema()
