"""Compare the predicted memory of each stage with the measured peak of a process that runs the stage alone.

    python -m tests.evidence.stage_memory [NAME]…

Names are those of MODELS; without names, all models that are there are measured. The lines replace those in docs/SCALING.md.
Each process imports what a worker of `taskdiv run` imports, uses one thread, and reads Dolly's prompts (../shared/data). Peaks do
not depend on the number of prompts once a batch is full, so a few prompts are enough.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "SCALING.md"
REAL = ROOT / ".real_model" / "gemma-3-270m"
TEMPLATE = "### Instruction:\n{}\n\n### Response:\n"
NEW_N = 8  # tokens of a continuation
MAX_LENGTH, PASS_TOKENS = 512, 1024  # of a training, as in dolly_small
# Prompts of each stage. Embedding fills up its batches; confidence continues all prompts together.
PROMPTS = {"embedding": 2, "confidence": 32, "tuning": 16, "scoring": 8}
MODELS = ("Gemma 3 270M", "Llama of 134M, random", "stories260K", "the lab")
WITHIN = 0.3


class Measured(NamedTuple):
    """The predicted and the measured peak of one stage, in bytes, and the processor time."""

    stage: str
    predicted_n: int
    measured_n: int
    cpu_s: float


def folder_of(name: str, scratch: Path) -> Path | None:
    """Return the folder of a model, made in `scratch` if it has random weights; None if the model is not here."""
    if name in (MODELS[0], MODELS[2]):
        found = REAL if name == MODELS[0] else DATA / "models" / "stories260K"
        return found if found.is_dir() else None
    folder = scratch / name.replace(" ", "_")
    folder.mkdir()
    _run("make", name, folder)
    return folder


def make(name: str, folder: Path) -> None:
    """Write a Llama with random weights, or the lab's model after one step."""
    from tests.benchmarks import random_llama

    if name == MODELS[1]:
        random_llama.save(random_llama.build(random_llama.Shape(768, 2_048, 12, 12, 32_000, 1_024), "cpu"), folder)
        return
    from taskdiv_assets.experiment import LabModel
    from taskdiv_assets.language_model.lab_model import train

    train(LabModel(seed=1, steps=1), None, folder)


def measure(stage: str, folder: Path) -> Measured:
    """Run one stage in this process, and return its memory as predicted and as measured."""
    import resource

    import torch

    from taskdiv_assets.commands.worker_process import _warm_up
    from taskdiv_assets.commands.workers import load as load_experiment
    from taskdiv_assets.language_model.footprint import without_weights
    from taskdiv_assets.language_model.model_folder import read_config
    from tests.benchmarks.shared import dolly_examples

    torch.set_num_threads(1)
    load_experiment("demo")  # as a worker does
    _warm_up()
    pairs = [(TEMPLATE.format(prompt), answer) for prompt, answer in dolly_examples(DATA)[: PROMPTS[stage]]]
    planned = without_weights(read_config(folder), "float32", torch.device("cpu"))
    predicted_n = globals()[f"_{stage}"](folder, pairs, planned)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Measured(stage, predicted_n, 1024 * used.ru_maxrss, used.ru_utime + used.ru_stime)


def _model(folder: Path) -> Any:
    from taskdiv_assets.language_model.loading import load

    return load(folder, dtype="float32", attention="sdpa")


def _sizes(lm: Any, texts: list[str]) -> int:
    from taskdiv_assets.language_model.loading import context_tokens

    return min(max(len(lm.tokenizer(one)["input_ids"]) for one in texts), context_tokens(lm) or 10**9)


def _embedding(folder: Path, pairs: list[tuple[str, str]], planned: Any) -> int:
    from taskdiv_assets.language_model import footprint
    from taskdiv_assets.language_model.embeddings import embed

    lm, prompts = _model(folder), [prompt for prompt, _ in pairs]
    embed(lm, prompts)
    return footprint.embedding(planned, _sizes(lm, prompts)).total_n


def _confidence(folder: Path, pairs: list[tuple[str, str]], planned: Any) -> int:
    from taskdiv_assets.language_model import footprint
    from taskdiv_assets.language_model.confidence import score

    lm, prompts = _model(folder), [prompt for prompt, _ in pairs]
    score(lm, prompts, max_new_tokens=NEW_N)
    return footprint.continuing(planned, _sizes(lm, prompts), len(prompts), NEW_N).total_n


def _tuning(folder: Path, pairs: list[tuple[str, str]], planned: Any) -> int:
    from taskdiv_assets.language_model import footprint
    from taskdiv_assets.language_model.tuning import Base, Example, tune
    from taskdiv_assets.tuning_settings import Tuning

    settings = Tuning(learning_rate=2e-4, epochs=1, max_length=MAX_LENGTH, pass_tokens=PASS_TOKENS)
    examples = [Example(str(place), *pair) for place, pair in enumerate(pairs)]
    with tempfile.TemporaryDirectory() as out:
        tune(Base(folder, "float32", "sdpa"), examples, settings, seed=0, out=Path(out))
    from taskdiv_assets.language_model.texts import read_tokenizer

    lm = planned._replace(tokenizer=read_tokenizer(folder).tokenizer)
    return footprint.training(planned, settings, _sizes(lm, ["".join(pair) for pair in pairs])).total_n


def _scoring(folder: Path, pairs: list[tuple[str, str]], planned: Any) -> int:
    from taskdiv_assets.benchmarks.held_out_benchmark import Row, encoded, questions
    from taskdiv_assets.language_model import footprint
    from taskdiv_assets.language_model.likelihood import Asked, LikelihoodPlan

    lm = _model(folder)
    rows = [Row(str(place), "task", *pair) for place, pair in enumerate(pairs)]
    asked = [encoded(lm, MAX_LENGTH, one).question for one in questions(rows).requests.values()]
    found = [one for one in asked if isinstance(one, Asked)]
    list(LikelihoodPlan(lm, found).run())
    longest_n = max(len(one.context) + len(one.answer) for one in found)
    return footprint.weighing(planned, longest_n, max(len(one.answer) for one in found)).total_n


def _run(*arguments: str | Path) -> str:
    """Run this module in a new interpreter. This process stays small, because a child starts with its parent's peak."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.evidence.stage_memory", *map(str, arguments)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)
    if done.returncode:
        raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def compare(names: tuple[str, ...], stages: tuple[str, ...] = tuple(PROMPTS)) -> dict[str, list[Measured]]:
    """Measure stages of the models that are on this machine. Return the measurements by model name."""
    found: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            if (folder := folder_of(name, Path(scratch))) is None:
                print(f"{name} is not here; `make real-model` installs Gemma", flush=True)
                continue
            found[name] = []
            for stage in stages:
                one = Measured(*json.loads(_run(stage, folder).splitlines()[-1]))
                print(f"{name}: {one}", flush=True)
                found[name].append(one)
    return found


def table(found: dict[str, list[Measured]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| model | stage | predicted, GB | measured, GB | off by |", "| --- | --- | ---: | ---: | ---: |"]
    for name, measured in found.items():
        for one in measured:
            off = f"{one.predicted_n / one.measured_n - 1:+.0%}"
            lines.append(f"| {name} | {one.stage} | {one.predicted_n / 1e9:.2f} | {one.measured_n / 1e9:.2f} | {off} |")
    return lines


def main(names: tuple[str, ...]) -> None:
    """Measure, and write the table into the page. Lines of models that are not measured stay."""
    from tests.evidence.marked import marked, replace_marked

    heads, written = table({}), marked(PAGE.read_text(encoding="utf-8"), "stage memory").splitlines()
    found = compare(names or MODELS)
    kept = [line for line in written if line not in heads and line.split("|")[1].strip() not in found]
    replace_marked(PAGE, "stage memory", "\n".join([*table(found), *kept]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] and sys.argv[1] in PROMPTS:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
    else:
        main(tuple(sys.argv[1:]))
