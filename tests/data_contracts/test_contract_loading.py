"""The contract files are valid ODCS, describe the agreed tables, and are quick to read."""

import inspect
import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard

import data_contracts
from data_contracts.contract import ARROW_TYPES, parse
from data_contracts.views import VIEWS

# The agreed tables, written a second time: key columns first, `!` for not null.
SCORES = (
    "training_seed int64, selection_seed int64, benchmark string!, task string!, item_id string!, metric string!, "
    "score double!, prompt_hash string!"
)
RANKED = "selection_seed int64!, rank int64!, prompt_id string!, task string!"
AGREED = {
    "raw_pool": (
        "prompt_id",
        "prompt_id string!, source_id string, prompt string!, response string, source_task string, position int64!",
    ),
    "task_labels": (
        "prompt_id",
        "prompt_id string!, task string!, how dictionary<values=string, indices=int32, ordered=0>!",
    ),
    "base_model": ("file", "file string!, bytes int64!, sha256 string!"),
    "confidence_table": (
        "prompt_id",
        "prompt_id string!, generated_n int32!, truncated bool!, mean_probability double!, "
        "first_probability double!, min_probability double!, sequence_log_probability double!, "
        "mean_entropy double!, mean_margin double!, min_margin double!, confidence double!",
    ),
    "prompt_embeddings": ("prompt_id", "prompt_id string!, norm double!"),
    "template_embeddings": ("prompt_id", "prompt_id string!, norm double!"),
    "sentence_embeddings": ("prompt_id", "prompt_id string!, norm double!"),
    "task_confidence": (
        "task",
        "task string!, pool_n int64!, scored_n int64!, mean_confidence double!, standard_error double",
    ),
    "confidence_comparison": (
        "source definition budget_n task",
        "source string!, definition string!, budget_n int64!, task string!, is_chosen bool!, "
        "mean_confidence double!, standard_error double, allocated_n int64!, allocated_low_n int64, "
        "allocated_high_n int64, distance_by_sampling double!, score_s double!",
    ),
    "confidence_accuracy": (
        "task",
        "task string!, items_n int64!, mean_confidence double!, accuracy double!, accuracy_low double!, "
        "accuracy_high double!, answer_probability double!",
    ),
    "tuning_choice": (
        "learning_rate training_seed",
        "learning_rate double!, training_seed int64!, examples_n int64!, validation_n int64!, validation_loss double, "
        "final_loss double, train_s double",
    ),
    "round_confidence": (
        "strategy selection_seed after_n task",
        "strategy string!, selection_seed int64!, after_n int64!, task string!, left_n int64!, scored_n int64!, "
        "mean_confidence double!, standard_error double, adapter string!",
    ),
    "ranking": ("selection_seed rank", RANKED),
    "allocation": ("selection_seed rank", RANKED),
    "annotations": (
        "prompt_id",
        "prompt_id string!, response string!, annotator string, imported_at timestamp[us, tz=UTC]!, "
        "batch string!, row int64!, source string, model string, input_tokens int64, output_tokens int64, "
        "is_draft_kept bool",
    ),
    "held_out_items": (
        "prompt_id",
        "prompt_id string!, source_id string, task string!, prompt string!, response string",
    ),
    "contamination": (
        "benchmark task item_id prompt_id",
        "benchmark string!, task string!, item_id string!, prompt_id string!, is_exact bool!",
    ),
    "annotation_batch": ("selection_seed rank", f"{RANKED}, prompt string!"),
    "adapter": (
        "training_seed",
        "training_seed int64!, selection_seed int64!, folder string!, examples_n int64!, "
        "trained_tokens_n int64!, final_loss double!, train_s double!, sha256 string!",
    ),
    "benchmark_scores": ("training_seed benchmark task item_id metric", SCORES),
    "base_scores": ("training_seed benchmark task item_id metric", SCORES),
    "strategy_report": (
        "quantity benchmark metric strategy reference budget_n training_seed task",
        "quantity string!, benchmark string!, metric string!, strategy string!, reference string!, budget_n int64!, "
        "training_seed int64, task string!, estimate double, low double, high double, p_value double, p_adjusted double, "
        "verdict string!, seeds_n int64!, items_n int64!, family string!, p_value_cautious double, standard_error double, "
        "df double, equivalence_low double, equivalence_high double, equivalence string!",
    ),
}
PARAMETERS = {
    "raw_pool": {"dropped_copies", "held_out_ids"},
    "task_labels": {"pool_prompt_ids", "smallest_budget", "agreement", "vote_confidence"},
    "base_model": {"actual_sha256"},
    "confidence_table": {"scored_prompt_ids", "definition", "max_tokens"},
    "prompt_embeddings": {"pool_prompt_ids"},
    "template_embeddings": {"pool_prompt_ids"},
    "sentence_embeddings": {"pool_prompt_ids"},
    "task_confidence": {"pool_task_sizes", "estimable_from_n"},
    "confidence_comparison": {"pool_task_sizes", "rows_per_task"},
    "confidence_accuracy": set(),
    "tuning_choice": {"learning_rates", "training_seeds", "held_out_trained"},
    "round_confidence": {"strategies", "selection_seeds", "tasks"},
    "ranking": {"pool_prompt_ids", "depth", "selection_seeds", "prompt_tasks"},
    "allocation": {"budget_n", "selection_seeds", "pool_task_sizes", "bought_labels", "held_out_ids"},
    "annotations": {"pool_prompt_ids", "held_out_ids", "sources", "low_agreement"},
    "annotation_batch": {"answered_prompt_ids", "budget_n"},
    "held_out_items": {"pool_prompt_ids"},
    "contamination": {"pool_prompt_ids"},
    "adapter": {"training_seeds", "budget_n", "examples_max_n", "actual_sha256", "held_out_trained"},
    "benchmark_scores": {"training_seeds", "expected_items", "lost_to_blanks"},
    "base_scores": {"expected_items", "lost_to_blanks"},
    "strategy_report": set(),
}
LOGICAL = {"string": "string", "bool": "boolean", "int32": "integer", "int64": "integer", "float64": "number"}


def text_of(name: str) -> str:
    return (files("data_contracts") / f"{name}.odcs.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", data_contracts.names())
class TestEveryContract:
    def test_is_valid_by_the_standards_own_json_schema(self, name: str) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        document = yaml.safe_load(text_of(name))
        assert document["apiVersion"] == "v3.1.0"
        jsonschema.Draft201909Validator(json.loads(OpenDataContractStandard.json_schema())).validate(document)

    def test_says_what_it_is_and_whose(self, name: str) -> None:
        contract = data_contracts.load(name)
        assert contract.name == name
        assert contract.description.endswith(".")
        assert contract.owner

    def test_has_the_agreed_columns_types_and_key(self, name: str) -> None:
        contract = data_contracts.load(name)
        fields = [f"{field.name} {field.type}{'' if field.nullable else '!'}" for field in contract.arrow_schema]
        assert (" ".join(contract.key), ", ".join(fields)) == AGREED[name]
        assert tuple(column.name for column in contract.columns if column.is_key) == contract.key

    def test_explains_every_column(self, name: str) -> None:
        for column in data_contracts.load(name).columns:
            assert column.description.endswith(".")
            assert column.logical_type == LOGICAL.get(column.physical_type, column.logical_type)
            assert bool(column.unit) == (column.logical_type in ("integer", "number")), column

    def test_asks_for_the_agreed_parameters_and_no_other(self, name: str) -> None:
        rules = data_contracts.load(name).rules
        assert {parameter for rule in rules for parameter in rule.parameters} == PARAMETERS[name]

    def test_has_rules_with_distinct_names_and_views_that_exist(self, name: str) -> None:
        rules = data_contracts.load(name).rules
        names = [rule.name for rule in rules]
        assert len(set(names)) == len(names)
        assert {"schema", "key_unique", "not_null", "sorted_by_key"} <= set(names)
        for rule in rules:
            assert re.fullmatch(r"[a-z0-9_]+", rule.name)  # as Dagster wants the name of a check
            assert rule.description.endswith(".")
            inspect.signature(VIEWS[rule.view]).bind(None, **rule.arguments)

    def test_survives_parquet(self, name: str) -> None:
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(data_contracts.load(name).arrow_schema.empty_table(), sink)
        assert pq.read_schema(pa.BufferReader(sink.getvalue())).equals(data_contracts.load(name).arrow_schema)


def test_reading_all_contracts_needs_neither_pandas_nor_great_expectations_and_little_time() -> None:
    """Measured 0.17 s for reading (0.13 of it importing the ODCS models); the bound is for a busy machine."""
    code = (
        "import sys, time, pyarrow, data_contracts as d; t = time.process_time();"
        "[d.load(n) for n in d.names()];"
        "print(time.process_time() - t, [m for m in ('pandas', 'great_expectations', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, loaded = out.split(maxsplit=1)
    assert loaded.strip() == "[]"
    assert float(seconds) < 1


def test_an_unknown_table_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"no data contract 'rankings'.*ranking"):
        data_contracts.load("rankings")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "severity: error",
            "severity: fatal",
            "prompt_embeddings, rule prompts_equal_pool.*'fatal' is neither",
        ),
        ("engine: greatExpectations", "engine: soda", "rule 'prompts_equal_pool': expected type custom"),
        (
            "physicalType: float64",
            "physicalType: money",
            "column 'norm': physicalType 'money' is none of string",
        ),
        ("kind: DataContract", "kind: DataContract\nsurprise: 1", "surprise"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_its_place(old: str, new: str, message: str) -> None:
    text = text_of("prompt_embeddings").replace(old, new, 1)
    with pytest.raises(ValueError, match=message.replace("rule prompts_equal_pool", "rule 'prompts_equal_pool'")):
        parse(text)


def test_an_unknown_rule_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(KeyError, match="norm_is_one"):
        data_contracts.load("prompt_embeddings").rule("norm")


def test_every_arrow_type_is_used_by_some_contract() -> None:
    used: set[Any] = {
        column.physical_type for name in data_contracts.names() for column in data_contracts.load(name).columns
    }
    assert used == set(ARROW_TYPES)


def test_the_catalogue_knows_order_and_partitions() -> None:
    """In the order that data flows, written a second time."""
    expected = {
        "none": "raw_pool annotations held_out_items contamination base_model prompt_embeddings template_embeddings sentence_embeddings "
        "task_labels confidence_table task_confidence confidence_comparison confidence_accuracy base_scores tuning_choice round_confidence strategy_report",
        "strategy": "ranking",
        "cell": "allocation annotation_batch adapter benchmark_scores",
    }
    assert [name for name in data_contracts.names() if name == "strategy_report"] == [data_contracts.names()[-1]]
    for kind, names in expected.items():
        assert [one for one in data_contracts.names() if data_contracts.partitioned_by(one) == kind] == names.split()


def toy(tmp_path: Path, **changed: str) -> Path:
    """Return a folder with the contract of one more table, `toy`, with some texts replaced."""
    text = text_of("base_model").replace("base_model", "toy").replace("value: 40", "value: 135")
    text = text.replace("value: none", "value: cell")
    for old, new in changed.items():
        text = re.sub(old, new, text)
    (tmp_path / "toy.odcs.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_contract_of_another_folder_is_found_while_asked_for(tmp_path: Path) -> None:
    before = data_contracts.names()
    with data_contracts.also_in(toy(tmp_path)):
        place = data_contracts.names().index("toy")
        assert data_contracts.names()[place - 1 : place + 2] == ("allocation", "toy", "annotation_batch")
        assert data_contracts.partitioned_by("toy") == "cell"
        assert data_contracts.load("toy").key == ("file",)
    assert data_contracts.names() == before
    with pytest.raises(ValueError, match="no data contract 'toy'"):
        data_contracts.load("toy")


def test_a_contract_without_its_place_is_refused(tmp_path: Path) -> None:
    said = "contract toy: custom property order is 'soon'"
    with data_contracts.also_in(toy(tmp_path, **{"value: 135": "value: soon"})), pytest.raises(ValueError, match=said):
        data_contracts.names()
    said = "contract toy: custom property partitionedBy is 'seed'"
    with data_contracts.also_in(toy(tmp_path, **{"value: cell": "value: seed"})), pytest.raises(ValueError, match=said):
        data_contracts.partitioned_by("toy")


def test_a_role_has_one_table() -> None:
    assert data_contracts.with_role("confidence_by_task") == "task_confidence"
    with pytest.raises(ValueError, match="no data contract has the role 'nothing'"):
        data_contracts.with_role("nothing")
