"""A damaged or foreign model folder is rejected in one sentence, before any prompt is scored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from taskdiv_assets.experiment import BaseModelSource
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.language_model.loading import load, resolve_source
from taskdiv_assets.language_model.model_folder import check_loads
from taskdiv_assets.language_model.tuning import Base, Example, tune
from taskdiv_assets.tuning_settings import Tuning

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


@pytest.fixture
def folder(miniature_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(miniature_folder, tmp_path / "model"))


def rewritten(folder: Path, change: Callable[[dict], dict]) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file(change(weights), folder / WEIGHTS, metadata={"format": "pt"})


def last(weights: dict) -> str:
    return sorted(name for name in weights if "q_proj" in name)[-1]


def without_one(folder: Path) -> None:
    rewritten(folder, lambda weights: {name: value for name, value in weights.items() if name != last(weights)})


def without_a_layer(folder: Path) -> None:
    rewritten(folder, lambda weights: {name: value for name, value in weights.items() if ".layers.0." not in name})


def with_a_prefix(folder: Path) -> None:
    rewritten(folder, lambda weights: {f"wrapped.{name}": value for name, value in weights.items()})


def of_another_shape(folder: Path) -> None:
    rewritten(folder, lambda weights: {**weights, last(weights): weights[last(weights)][:2].copy()})


def cut_short(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def configured(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = {**json.loads((folder / CONFIG).read_text()), **changes}
        (folder / CONFIG).write_text(json.dumps({name: value for name, value in config.items() if value is not None}))

    return change


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def with_more_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<extra>", "<more>"])
    tokenizer.save_pretrained(folder)


def with_an_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00002-of-00002.safetensors"}}')


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "one tensor is missing": (without_one, r"1 tensor\(s\) are not in the weight files, the first is model\.layers"),
    "a layer is missing": (without_a_layer, r"tensor\(s\) are not in the weight files, the first is model\.layers\.0"),
    "every name has a prefix": (with_a_prefix, r"such as wrapped\..* copy the whole model"),
    "a tensor has another shape": (of_another_shape, r"do not have the shape that config\.json asks for"),
    "the weights are cut short": (cut_short, r"model\.safetensors is damaged or was cut short"),
    "the weights are empty": (written(WEIGHTS, ""), r"model\.safetensors is damaged or was cut short"),
    "a part of the weights is not there": (with_an_index, r"1 file\(s\) that are not there, .* model-00002-of-00002"),
    "the index is no index": (written("model.safetensors.index.json", "[]"), "not an index of weight files"),
    "no type": (configured(model_type=None), r"config\.json cannot be used .*model_type"),
    "an unknown type": (configured(model_type="nosuch"), r"config\.json cannot be used .*nosuch"),
    "a configuration that is no JSON": (written(CONFIG, "{"), r"config\.json cannot be used"),
    "a configuration that is a list": (written(CONFIG, "[1]"), r"config\.json cannot be used"),
    "a width that is text": (configured(hidden_size="wide"), "cannot be used"),
    "an encoder": (configured(model_type="vit"), "cannot be used"),
    "an empty tokenizer file": (written(TOKENIZER, ""), "the tokenizer cannot be used"),
    "a tokenizer without content": (written(TOKENIZER, "{}"), "the tokenizer cannot be used"),
    "a tokenizer that is a list": (written(TOKENIZER, "[]"), "the tokenizer cannot be used"),
    "more tokens than rows": (with_more_tokens, r"2 token\(s\) that the model has no row for, the first is '<extra>'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_sentence_with_the_file_and_what_to_do(folder: Path, damage: str) -> None:
    damaged, said = DAMAGES[damage]
    damaged(folder)
    with pytest.raises(ValueError, match=said) as caught:
        check_loads(folder)
    assert str(caught.value).startswith(f"base model {folder}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["one tensor is missing", "every name has a prefix", "the weights are cut short"])
def test_it_is_found_when_the_base_model_is_made_and_when_it_is_loaded(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    damaged, said = DAMAGES[damage]
    damaged(folder)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match=said.split(r"\.")[0]):
        resolve_source(BaseModelSource(path=str(folder)), Pool(reader="lab"), out)
    with pytest.raises(ValueError, match="base model"):
        load(folder, dtype="float32", attention="sdpa")


def test_a_whole_folder_passes_and_its_weights_are_not_read(folder: Path) -> None:
    check_loads(folder)
    size = (folder / WEIGHTS).stat().st_size
    with (folder / WEIGHTS).open("r+b") as file:  # the header stays, the numbers go
        file.seek(size - 64)
        file.write(b"\xff" * 64)
    check_loads(folder)


def test_a_padding_token_beyond_the_embedding_is_not_used(folder: Path, tmp_path: Path) -> None:
    """Many hand-made chat models add one and leave the embedding as it was: rows are then filled with another token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[A NEW PAD]"})
    tokenizer.save_pretrained(folder)
    check_loads(folder)
    out = tmp_path / "adapter"
    out.mkdir()
    examples = [Example("a", "copy: ab>", "ab"), Example("b", "copy: abcd>", "abcd")]
    tuned = tune(Base(folder, "float32", "sdpa"), examples, Tuning(learning_rate=1e-3, epochs=1), seed=0, out=out)
    assert tuned.examples_n == 2
