"""A GGUF file as an experiment's base: stored tables, staleness, the report's sentences, and the checks of `taskdiv plan`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from reports import provenance, results
from taskdiv_assets.assets import REGISTRY, base_model
from taskdiv_assets.commands.proposal_checks import model_problem
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.store import Store
from tests.home import Home
from tests.language_model.make_gguf import write_tiny
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_tuning_facts import SMALL, with_notes
from tests.test_proxies import POOL, Bench


class GgufBench(Bench):
    """An experiment over the lab's pool whose base is a tiny GGUF file."""

    def __init__(self, home: Home) -> None:
        self.file = write_tiny(home.folder / "tiny.gguf").path
        path = home.write_experiment(
            "packed",
            ("base_model: {lab: {seed: 1, steps: 40, batch_size: 32, hidden_size: 32, layers: 2}}",
             'base_model: {path: tiny.gguf}\nprompt_template: "{prompt}"'),
            ("benchmarks: [{name: lab}]", "benchmarks: [{name: bbh, limit: 1}]"),
            ("benchmark: lab", "benchmark: bbh"),
        )  # fmt: skip
        self.experiment = experiment_file.parse(*experiment_file.read_text(str(path)))
        self.store = Store(self.experiment.name)


@pytest.fixture
def bench(empty_home: Home, monkeypatch: pytest.MonkeyPatch) -> GgufBench:
    monkeypatch.setattr(base_model, "try_out", lambda base, tuning: "not in this test")
    for name, value in empty_home.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(empty_home.folder)
    return GgufBench(empty_home)


def test_the_file_is_unpacked_once_and_its_hash_is_the_identity(bench: GgufBench) -> None:
    sha256 = hashlib.sha256(bench.file.read_bytes()).hexdigest()
    bench.make(*POOL, REGISTRY["prompt_embeddings"])
    footer = bench.store.read_footer("base_model")
    assert footer.inputs == {"source/0": sha256} and footer.notes["unpacked_from"] == sha256
    assert footer.notes["source"] == "tiny.gguf"
    assert bench.lineage().is_fresh(Unit("prompt_embeddings"))
    bench.file.write_bytes(bench.file.read_bytes()[:-1] + b"\1")  # another last weight is another model
    assert bench.lineage().state(Unit("base_model")).status == "stale"
    bench.file.unlink()  # without the file, what was stored of it still counts
    assert bench.lineage().is_fresh(Unit("prompt_embeddings"))


def test_a_damaged_file_is_known_before_anything_runs(bench: GgufBench) -> None:
    bench.file.write_bytes(bench.file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"tiny\.gguf: it was cut short: .*; download it again"):
        bench.lineage().expect(Unit("base_model"))


def test_the_report_says_that_the_base_was_quantised(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Recipe(**SMALL))
    assert "quantised" not in dict(provenance.facts(results.load(str(folder))))["Base model"]
    with_notes(folder / "tables" / "base_model.parquet", {"unpacked_from": "ab" * 32})
    said = dict(provenance.facts(results.load(str(folder))))["Base model"]
    assert said.endswith(f"; a quantised base, unpacked from a GGUF file (SHA-256 {'ab' * 32})")


def test_init_accepts_a_file(bench: GgufBench, tmp_path: Path) -> None:
    assert model_problem(str(bench.file)) is None
    assert (
        model_problem(str(tmp_path / "none.gguf"))
        == f"there is no folder {tmp_path}/none.gguf; expected the folder of a model, or none"
    )


@pytest.mark.full
def test_dolly_small_is_planned_over_a_gguf_file_in_place_of_the_hub(
    bench: GgufBench, empty_home: Home, shared_data: Path
) -> None:
    text = experiment_file.read_text("dolly_small")[0].replace("name: dolly_small", "name: small")
    for section, path in {
        "hub: databricks/databricks-dolly-15k\n  revision: bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a":
            f"path: {shared_data / 'dolly' / 'databricks-dolly-15k.jsonl.gz'}",
        "hub: google/gemma-3-270m\n  revision: 9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1": f"path: {bench.file}",
        "source: hub": f"source: {shared_data / 'mmlu' / 'mmlu_csv.tar.gz'}",
    }.items():  # fmt: skip
        assert text.count(section) == 1
        text = text.replace(section, path)
    (empty_home.folder / "small.yaml").write_text(text)
    made = empty_home.taskdiv("plan", "small.yaml")
    assert made.returncode == 0, made.stderr
    assert "57 of 5,235 items" in made.stdout and "next: taskdiv run small.yaml" in made.stdout
