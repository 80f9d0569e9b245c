"""The lab's benchmark with a model that is trained here in seconds."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskdiv_assets.benchmarks import Scored, Scorer, expected_items, settings_identity
from taskdiv_assets.benchmarks import lab_benchmark as lab
from taskdiv_assets.benchmarks.adapters import loaded_adapters
from taskdiv_assets.experiment.benchmark_settings import LabBenchmark
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.pools.lab import LabItem, held_out_items, pool_items
from taskdiv_assets.tuning_settings import Tuning
from tests.benchmark_tasks.scoring import score, score_base

TEST = LabBenchmark(name="lab")
VALIDATION = LabBenchmark(name="lab", split="validation")
Load = Callable[[], LanguageModel]


def verdicts_in(scored: Scored) -> dict[str, float]:
    table = scored.table
    return dict(zip(table["item_id"].to_pylist(), table["score"].to_pylist(), strict=True))


def generated_verdicts(lm: LanguageModel, items: list[LabItem], template: str) -> dict[str, float]:
    """Compute exact match a second time: let transformers generate greedily, and compare with the answer and the end token."""
    import torch

    verdicts = {}
    for item in items:
        prompt = lm.tokenizer(template.replace("{prompt}", item.prompt), return_tensors="pt")
        target = lm.tokenizer(item.response)["input_ids"] + [lm.tokenizer.eos_token_id]
        with torch.no_grad():
            output = lm.model.generate(**prompt, max_new_tokens=len(target), do_sample=False)
        verdicts[item.item_id] = float(output[0, prompt["input_ids"].shape[1] :].tolist() == target)
    return verdicts


def test_log_likelihood_and_generation_give_the_same_verdict(
    load_lab: Load, lab_adapters: dict[int, Path], pool: Pool
) -> None:
    lm = load_lab()
    items = held_out_items("validation", pool.seed, pool.tasks)
    base = verdicts_in(score_base(lm, VALIDATION, pool=pool))
    assert base == generated_verdicts(lm, items, "{prompt}")
    assert 0 < sum(base.values()) < len(items)  # the comparison has both verdicts in it
    tuned = score(lm, lab_adapters, VALIDATION, pool=pool)
    with loaded_adapters(lm, lab_adapters) as activate:
        activate(7)
        assert verdicts_in(tuned[7]) == generated_verdicts(lm, items, "{prompt}")


@pytest.mark.full
def test_a_template_that_ends_in_a_blank_is_scored_as_it_was_trained(
    load_lab: Load, lab_folder: Path, pool: Pool, tmp_path: Path
) -> None:
    """lm-eval's own rule would ask for the blank as part of the answer, and score 0 everywhere."""
    from taskdiv_assets.language_model.tuning import Base, Example, tune

    template = "{prompt} "
    examples = [
        Example(item.item_id, template.replace("{prompt}", item.prompt), item.response)
        for item in pool_items(pool.seed, pool.tasks, pool.largest_n, pool.smallest_n)
    ]
    tuning = Tuning(learning_rate=5e-3, epochs=8)
    tune(Base(lab_folder, "float32", "sdpa"), examples, tuning, seed=0, out=tmp_path)
    lm, items = load_lab(), held_out_items("validation", pool.seed, pool.tasks)
    tuned = verdicts_in(score(lm, {0: tmp_path}, VALIDATION, pool=pool, template=template)[0])
    with loaded_adapters(lm, {0: tmp_path}):
        assert tuned == generated_verdicts(lm, items, template)
    assert 0 < sum(tuned.values()) < len(items)


def test_what_is_scored_is_what_fine_tuning_trains_on(load_lab: Load, pool: Pool, tmp_path: Path) -> None:
    from datasets import Dataset
    from lm_eval.api.instance import Instance
    from trl import SFTConfig, SFTTrainer

    from taskdiv_assets.benchmarks.encoding import Encoder
    from taskdiv_assets.language_model.tuning import Example, encode

    lm = load_lab()
    items = held_out_items("validation", pool.seed, pool.tasks)
    encoder = Encoder(lm, as_trained=True)
    for template in ("{prompt}", "{prompt} "):
        prompts = [template.replace("{prompt}", item.prompt) for item in items]
        rows = Dataset.from_dict({"prompt": prompts, "completion": [item.response for item in items]})
        config = SFTConfig(str(tmp_path), report_to="none", use_cpu=True, completion_only_loss=True)
        trained = SFTTrainer(lm.model, config, train_dataset=rows, processing_class=lm.tokenizer).train_dataset
        for prompt, item, row in zip(prompts, items, trained, strict=True):
            request = Instance("loglikelihood", {}, (prompt, item.response + lm.tokenizer.eos_token), 0)
            context, answer = map(list, encoder.encode(request).question)
            assert context + answer == row["input_ids"]
            assert [-100] * len(context) + answer == row["labels"]  # −100 carries no loss
            ours = encode(lm, Example(item.item_id, prompt, item.response), room=64)
            assert (ours.input_ids, ours.labels) == (row["input_ids"], row["labels"])
            assert answer == lm.tokenizer(item.response)["input_ids"] + [lm.tokenizer.eos_token_id]


def test_a_request_is_the_rendered_prompt_and_the_answer_with_its_end(pool: Pool) -> None:
    tasks = lab.suite(TEST, pool, template="Q: {prompt}", end="<eos>").task_dict["tasks"]
    asked = set()
    for task in tasks.values():
        task.build_all_requests()
        asked |= {request.args for request in task.instances}
    items = held_out_items("test", pool.seed, pool.tasks)
    assert asked == {(f"Q: {item.prompt}", f"{item.response}<eos>") for item in items}


def test_the_table_is_complete_sorted_and_quiet(load_lab: Load, pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    lm, seen = load_lab(), []
    capfd.readouterr()
    scored = Scorer(lm, TEST, pool=pool).score(progress=lambda done, total: seen.append((done, total)))
    table = scored.table
    assert capfd.readouterr() == ("", "")
    assert table.num_rows == expected_items(TEST, pool) == 160
    assert [total for _, total in seen] == [160] * len(seen)
    assert (done := [n for n, _ in seen]) == sorted(done) and done[-1] == 160
    assert table.column_names == ["benchmark", "task", "item_id", "metric", "score", "prompt_hash"]
    keys = list(zip(*(table[name].to_pylist() for name in ("task", "item_id", "metric")), strict=True))
    assert keys == sorted(set(keys))
    prompts = {item.item_id: item.prompt for item in held_out_items("test", pool.seed, pool.tasks)}
    for row in table.to_pylist():
        assert row["prompt_hash"] == hashlib.sha256(prompts[row["item_id"]].encode()).hexdigest()
    assert scored.notes == (160, 160, 0, 0, {}, 0)


def test_adapters_in_one_call_equal_each_after_a_fresh_load(
    load_lab: Load, lab_adapters: dict[int, Path], pool: Pool
) -> None:
    import torch
    from peft import PeftModel

    lm = load_lab()
    together = score(lm, lab_adapters, TEST, pool=pool)
    assert together[3] != together[7]
    with loaded_adapters(lm, lab_adapters) as activate:
        for seed, folder in lab_adapters.items():
            assert together[seed] == score(load_lab(), {seed: folder}, TEST, pool=pool)[seed]
            activate(seed)
            tokens = torch.arange(40).reshape(2, 20)
            fresh = PeftModel.from_pretrained(load_lab().model, str(folder))
            assert torch.equal(lm.model(tokens).logits, fresh(tokens).logits)


def test_the_model_is_afterwards_as_it_was(load_lab: Load, lab_adapters: dict[int, Path], pool: Pool) -> None:
    import torch

    lm, untouched = load_lab(), load_lab()
    lm.tokenizer.pad_token = None  # lm-eval would set one in place
    before = score_base(lm, VALIDATION, pool=pool)
    score(lm, lab_adapters, VALIDATION, pool=pool)
    assert lm.tokenizer.pad_token is None
    assert score_base(lm, VALIDATION, pool=pool) == before
    assert [name for name, _ in lm.model.named_modules()] == [name for name, _ in untouched.model.named_modules()]
    assert not hasattr(lm.model, "peft_config")
    expected = dict(untouched.model.named_parameters())
    for name, parameter in lm.model.named_parameters():
        assert torch.equal(parameter, expected[name])
        assert parameter.requires_grad == expected[name].requires_grad
    assert lm.model.training == untouched.model.training


def test_identity_follows_what_changes_the_scores(pool: Pool) -> None:
    identity = settings_identity(TEST, pool=pool)
    assert identity == settings_identity(
        TEST, pool=pool.model_copy(update={"largest_n": 600})
    )  # the pool's size does not
    others = [
        settings_identity(VALIDATION, pool=pool),
        settings_identity(TEST, pool=pool, template="{prompt} "),
        settings_identity(TEST, pool=pool.model_copy(update={"seed": 2})),
        settings_identity(TEST, pool=pool.model_copy(update={"tasks": ["first"]})),
    ]
    assert identity not in others
    json.dumps(identity)


def test_counting_and_identity_load_no_heavy_library() -> None:
    program = (
        "import sys; from taskdiv_assets.benchmarks import *; from taskdiv_assets.experiment import *;"
        "from taskdiv_assets.experiment.benchmark_settings import *;"
        "pool = Pool(reader='lab'); bench = LabBenchmark(name='lab');"
        "print(expected_items(bench, pool), len(settings_identity(bench, pool=pool)));"
        "hub = BbhBenchmark(name='bbh'); print(expected_items(hub, pool), settings_identity(hub, pool=pool)['source']);"
        "print({'torch', 'transformers', 'peft', 'lm_eval', 'datasets'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["960 5", "6511 hub", "set()"]


def test_mistakes_are_told_in_one_sentence(
    load_lab: Load, lab_adapters: dict[int, Path], pool: Pool, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    lm, folder = load_lab(), lab_adapters[3]

    def broken(name: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        save_file(change(load_file(copy / "adapter_model.safetensors")), copy / "adapter_model.safetensors")
        return copy

    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(folder / "adapter_config.json", half)
    spoiled = broken("spoiled", lambda weights: {key: weight * float("nan") for key, weight in weights.items()})
    smaller = broken("smaller", lambda weights: {key: weight[:, :2].contiguous() for key, weight in weights.items()})
    fewer = broken("fewer", lambda weights: dict(list(weights.items())[:-1]))
    for adapters, message in [
        ({}, "no adapter to score"),
        (
            {3: tmp_path / "none"},
            "training seed 3 is incomplete: adapter_config.json, adapter_model.safetensors missing",
        ),
        ({3: folder, 4: half}, "training seed 4 is incomplete: adapter_model.safetensors missing"),
        ({5: spoiled}, "training seed 5 holds weights that are not finite"),
        ({5: smaller}, "training seed 5 does not fit this base model: size mismatch"),
        ({5: fewer}, "training seed 5 does not fit this base model: 1 weights have no counterpart"),
    ]:
        with pytest.raises(ValueError, match=message):
            score(lm, adapters, VALIDATION, pool=pool)
        assert not hasattr(lm.model, "peft_config")
    with pytest.raises(ValueError, match=r"needs `pool: {reader: lab}`, found reader 'dolly'"):
        expected_items(TEST, Pool(reader="dolly", path="dolly.jsonl"))
    with torch.no_grad():
        lm.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(
        ValueError, match=r"benchmark 'lab', task 'upper', item 'upper-validation-0': .* not a finite number"
    ):
        score_base(lm, VALIDATION, pool=pool)
