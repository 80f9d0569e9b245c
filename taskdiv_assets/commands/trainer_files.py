"""The files that other trainers read: the rows of a training, and a configuration with the same hyper-parameters.

Every row has the text that our own training learns from, so a trainer needs no template of its own. Each answer ends with the end
token, which TRL adds only if it is missing. Without it, `datasets` reads answers that are all dates as a column of timestamps.
TRL adds the start token. axolotl (`input_output`) and LLaMA-Factory (template `empty`) add none, so their rows contain it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import yaml

from taskdiv_assets.language_model.tuning.trl_parts import warmup_steps_n
from taskdiv_assets.tuning_settings import Tuning

ROWS = "train.jsonl"
# Names of settings that differ between the programs.
HUB_TRAINER = {"lr": "learning_rate", "scheduler": "lr_scheduler_type", "epochs": "num_train_epochs"}
AXOLOTL = {"lr": "learning_rate", "scheduler": "lr_scheduler", "epochs": "num_epochs"}


class TrainingRow(NamedTuple):
    """One training example."""

    prompt_id: str
    task: str
    prompt: str  # as in the pool
    read: str  # the prompt inside the template, as the model reads it
    response: str


class BaseFiles(NamedTuple):
    """The base model of a training, and what its tokenizer writes around texts."""

    place: str  # a name on the hub, or a folder
    revision: str | None
    dtype: str  # number format of the weights
    start: str  # start token that the tokenizer adds to a text; empty if it adds none
    end: str  # end token that follows each answer


class TrainingSet(NamedTuple):
    """The rows of one training, and its settings."""

    rows: tuple[TrainingRow, ...]
    tuning: Tuning  # with one learning rate
    seed: int
    template: str  # text around a prompt, with {prompt}
    known_base: BaseFiles | None = None  # None only for `jsonl`

    @property
    def base(self) -> BaseFiles:
        """The base model; raises ValueError if there is none."""
        if self.known_base is None:
            raise ValueError("these files need a base model, and the experiment names none")
        return self.known_base

    @property
    def steps_n(self) -> int:
        """Number of training steps, as in `draw_steps`."""
        return max(self.tuning.epochs * -(-len(self.rows) // self.tuning.batch_size), self.tuning.min_steps)


def files(found: TrainingSet, trainer: str) -> dict[str, bytes]:
    """Return the files for a program in TRAINERS, by name."""
    return TRAINERS[trainer](found)


def _trl(found: TrainingSet) -> dict[str, bytes]:
    tuning = found.tuning
    lora = {
        "use_peft": True,
        "lora_r": tuning.rank,
        "lora_alpha": tuning.alpha,
        "lora_dropout": tuning.dropout,
        "lora_target_modules": ["all-linear"],
        **({"load_in_4bit": True, "use_bnb_nested_quant": True} if tuning.quantization else {}),
    }
    config = {
        "model_name_or_path": found.base.place,
        **({"model_revision": found.base.revision} if found.base.revision else {}),
        "dtype": _dtype(found),
        "datasets": [{"path": "json", "data_files": ROWS}],
        "completion_only_loss": True,
        "packing": False,
        "max_length": tuning.max_length,
        **(lora if tuning.method == "lora" else {}),
        **_steps(found, HUB_TRAINER, "per_device_train_batch_size"),
        "output_dir": "trained",
        "report_to": "none",
    }
    rows = ({"prompt": row.read, "completion": row.response + found.base.end} for row in found.rows)
    return {ROWS: _lines(rows), "train.yaml": _yaml("trl sft --config train.yaml", config)}


def _axolotl(found: TrainingSet) -> dict[str, bytes]:
    tuning = found.tuning
    lora = {
        "adapter": "qlora" if tuning.quantization else "lora",
        **({"load_in_4bit": True} if tuning.quantization else {}),
        "lora_r": tuning.rank,
        "lora_alpha": tuning.alpha,
        "lora_dropout": tuning.dropout,
        "lora_target_linear": True,
    }
    config = {
        "base_model": found.base.place,
        **({"revision_of_model": found.base.revision} if found.base.revision else {}),
        "datasets": [{"path": ROWS, "ds_type": "json", "type": "input_output"}],
        "train_on_inputs": False,
        "val_set_size": 0,
        "sequence_len": tuning.max_length,
        "sample_packing": False,
        **(lora if tuning.method == "lora" else {}),
        **_steps(found, AXOLOTL, "micro_batch_size"),
        "optimizer": "adamw_torch",
        "output_dir": "trained",
    }
    rows = (
        {
            "segments": [
                {"label": False, "text": found.base.start + row.read},
                {"label": True, "text": row.response + found.base.end},
            ]
        }
        for row in found.rows
    )
    return {ROWS: _lines(rows), "train.yaml": _yaml("axolotl train train.yaml", config)}


def _llama_factory(found: TrainingSet) -> dict[str, bytes]:
    tuning = found.tuning
    lora = {
        "lora_rank": tuning.rank,
        "lora_alpha": tuning.alpha,
        "lora_dropout": tuning.dropout,
        "lora_target": "all",
        **({"quantization_bit": 4, "quantization_method": "bnb"} if tuning.quantization else {}),
    }
    config = {
        "model_name_or_path": found.base.place,
        **({"model_revision": found.base.revision} if found.base.revision else {}),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": tuning.method,
        "dataset_dir": ".",
        "dataset": "chosen",
        "template": "empty",
        "cutoff_len": tuning.max_length,
        **(lora if tuning.method == "lora" else {}),
        **_steps(found, HUB_TRAINER, "per_device_train_batch_size"),
        "output_dir": "trained",
        "report_to": "none",
    }
    columns = {"prompt": "instruction", "response": "output"}
    about = {"chosen": {"file_name": ROWS, "formatting": "alpaca", "columns": columns}}
    rows = ({"instruction": found.base.start + row.read, "output": row.response + found.base.end} for row in found.rows)
    return {
        ROWS: _lines(rows),
        "dataset_info.json": (json.dumps(about, indent=2) + "\n").encode(),
        "train.yaml": _yaml("llamafactory-cli train train.yaml", config),
    }


def _jsonl(found: TrainingSet) -> dict[str, bytes]:
    base = found.known_base
    config = {
        **({"base_model": base.place} if base else {}),
        **({"revision": base.revision} if base and base.revision else {}),
        "template": found.template,
        "seed": found.seed,
        "steps": found.steps_n,
        "tuning": found.tuning.model_dump(exclude_none=True),
    }
    rows = (
        {"prompt_id": row.prompt_id, "task": row.task, "prompt": row.prompt, "response": row.response}
        for row in found.rows
    )
    return {ROWS: _lines(rows), "tuning.yaml": _yaml("", config)}


TRAINERS: Mapping[str, Callable[[TrainingSet], dict[str, bytes]]] = {
    "trl": _trl,
    "axolotl": _axolotl,
    "llama-factory": _llama_factory,
    "jsonl": _jsonl,
}


def _steps(found: TrainingSet, names: Mapping[str, str], batch: str) -> dict[str, Any]:
    """Return the settings of optimizer and schedule that all programs have. A batch is one example, accumulated."""
    tuning, floor = found.tuning, found.steps_n
    is_by_epochs = floor == tuning.epochs * -(-len(found.rows) // tuning.batch_size)
    return {
        batch: 1,
        "gradient_accumulation_steps": min(tuning.batch_size, len(found.rows)),
        **({names["epochs"]: tuning.epochs} if is_by_epochs else {"max_steps": floor}),
        names["lr"]: tuning.rate,
        names["scheduler"]: tuning.scheduler,
        "warmup_steps": warmup_steps_n(tuning, floor),
        "weight_decay": tuning.weight_decay,
        "max_grad_norm": tuning.max_grad_norm,
        "seed": found.seed,
        "bf16": found.base.dtype == "bfloat16",
    }


def _dtype(found: TrainingSet) -> str:
    return "float32" if found.tuning.method == "full" else found.base.dtype


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _yaml(command: str, config: Mapping[str, Any]) -> bytes:
    head = f"# In this folder: {command}\n" if command else ""
    return (head + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)).encode()
