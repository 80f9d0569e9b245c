"""A base model in a GGUF file: unpacked, it equals the model that was packed. Every other file is rejected in one sentence."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from taskdiv_assets.experiment import BaseModelSource
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.graph.models import folder_hash
from taskdiv_assets.language_model.gguf_base import architectures, check_gguf
from taskdiv_assets.language_model.gguf_header import read_header
from taskdiv_assets.language_model.loading import load, resolve_source
from taskdiv_assets.language_model.tuning import Base, try_out
from taskdiv_assets.tuning_settings import Tuning
from tests.language_model.make_gguf import Tiny, write_tiny

TEXT = "the rain in the\nmain, \u00e9t\u00e9 <s>"
ROOT = Path(__file__).parents[2]
REAL = ROOT / ".real_model" / "gemma-3-270m"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return write_tiny(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def resolved(path: Path, folder: Path) -> Any:
    folder.mkdir()
    return resolve_source(BaseModelSource(path=str(path)), Pool(reader="lab"), folder)


def test_an_unpacked_base_is_the_model_that_was_packed(tiny: Tiny, tmp_path: Path) -> None:
    """Logits, tokens, size; and it can be trained, which a model that keeps its quantizer refuses."""
    found = resolved(tiny.path, folder := tmp_path / "out")
    assert found.unpacked_from == hashlib.sha256(tiny.path.read_bytes()).hexdigest()
    assert found.parameters_n == sum(weight.numel() for weight in tiny.model.parameters())
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    lm = load(folder, dtype="float32", attention="sdpa")
    tokens = tiny.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    assert lm.tokenizer(TEXT, return_tensors="pt")["input_ids"].tolist() == tokens.tolist()
    assert lm.tokenizer.decode(tokens[0][1:]) == TEXT
    with torch.inference_mode():
        torch.testing.assert_close(lm.model(tokens).logits, tiny.model(tokens).logits, rtol=0, atol=1e-5)
    assert try_out(Base(folder, "float32", "sdpa"), Tuning(learning_rate=1e-3, epochs=1)) == ""


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    tied = write_tiny(tmp_path / "tied.gguf", is_tied=True)
    assert resolved(tied.path, tmp_path / "out").parameters_n == sum(one.numel() for one in tied.model.parameters())
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")


def test_its_hash_is_that_of_the_file_and_no_other_file_counts(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "copy.GGUF"
    path.write_bytes(tiny.path.read_bytes())
    (tmp_path / "config.json").write_text("{}")
    assert (
        folder_hash(str(path), {}) == folder_hash(str(tiny.path), {}) == hashlib.sha256(path.read_bytes()).hexdigest()
    )


def changed(**changes: Any) -> Callable[[Path], None]:
    return lambda path: write_tiny(path, **changes) and None


def edited(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        write_tiny(path)
        path.write_bytes(change(path.read_bytes()))

    return damage


def at(place: int, form: str, value: int) -> Callable[[Path], None]:
    """Return an edit that replaces a number of the header.

    The version is at 4, tensors at 8, values at 16, the length of the first key at 24.
    """
    return edited(lambda data: data[:place] + struct.pack(form, value) + data[place + struct.calcsize(form) :])


HUGE = 2**63
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing there": (lambda path: None, "there is no such file"),
    "empty": (lambda path: path.write_bytes(b"") and None, "not a GGUF file: it begins with b''"),
    "another format": (lambda path: path.write_bytes(b"PK\3\4" * 50) and None, r"not a GGUF file: it begins with b'PK"),
    "only the magic": (lambda path: path.write_bytes(b"GGUF") and None, "the file ends inside its header"),
    "version 1": (at(4, "<I", 1), "GGUF of version 1; expected 2 or 3"),
    "big-endian": (at(4, ">I", 3), "little-endian"),
    "cut in the header": (edited(lambda data: data[:500]), "the file ends inside its header"),
    "cut in the weights": (
        edited(lambda data: data[:-100]),
        r"cut short: its header describes [\d,]+ bytes, and it has",
    ),
    "too many tensors": (at(8, "<Q", HUGE), "the file ends inside its header|dimensions"),
    "too many values": (at(16, "<Q", HUGE), "the file ends inside its header|type"),
    "an endless key": (at(24, "<Q", HUGE), "the file ends inside its header"),
    "an unknown architecture": (
        edited(lambda data: data.replace(b"llama", b"lambo")),
        r"'lambo', and transformers reads",
    ),
    "an encoder": (edited(lambda data: data.replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0nomic", 1)), "'nomic'"),
    "no tokenizer": (changed(tokenizer__ggml__model=None), "it has no tokenizer"),
    "an adapter": (changed(general__type="adapter"), "this is an adapter"),
    "one of several": (changed(split__count=3), "one of 3 parts; join them first"),
    "scaled positions": (changed(llama__rope__scaling__type="yarn"), r"rotary positions \(yarn\)"),
    "no alignment": (changed(general__alignment=0), "its alignment is 0"),
}
# Found when the file is unpacked: its header alone is well formed.
MISFITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a layer too many": (changed(llama__block_count=3), r"has [\d,]+ weights, and the model it describes has"),
    "a billion layers": (changed(llama__block_count=10**9), "states 1,000,000,000 layers, and has 21 tensors"),
    "a vast width": (changed(llama__embedding_length=2**31 - 64), "cannot be used|weights, and the model"),
    "another width": (changed(llama__embedding_length=128), "weights, and the model it describes"),
    "no heads": (changed(llama__attention__head_count=0), "cannot be used"),
    "an unknown tensor": (
        edited(lambda data: data.replace(b"attn_norm", b"some_norm", 1)),
        "not in the weight files|weights",
    ),
    "a vocabulary of numbers": (changed(tokenizer__ggml__tokens=[1, 2, 3]), "cannot be used"),
    "an unknown tokenizer": (changed(tokenizer__ggml__model="rwkv"), "the tokenizer cannot be used .*'rwkv'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    damaged, said = DAMAGES[damage]
    damaged(path := tmp_path / "model.gguf")
    with pytest.raises(ValueError, match=said) as caught:
        folder_hash(str(path), {})
    assert str(caught.value).startswith(f"base model {path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_file_that_does_not_fit_its_own_model_is_not_unpacked(tmp_path: Path, misfit: str) -> None:
    damaged, said = MISFITS[misfit]
    damaged(path := tmp_path / "model.gguf")
    with pytest.raises(ValueError, match=said) as caught:
        resolved(path, tmp_path / "out")
    assert str(caught.value).startswith(f"base model {path}: ") and "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*.gguf"))


def test_a_part_is_known_by_its_name_too_and_a_folder_names_its_file(tiny: Tiny, tmp_path: Path) -> None:
    part = tmp_path / "big-00002-of-00007.gguf"
    part.write_bytes(tiny.path.read_bytes())
    with pytest.raises(ValueError, match="part 2 of 7; join"):
        check_gguf(part)
    with pytest.raises(ValueError, match=r"to use a GGUF file, name it: `path: .*00007\.gguf`"):
        folder_hash(str(tmp_path), {})


def test_the_header_equals_what_gguf_reads(tiny: Tiny) -> None:
    import gguf

    reader, header = gguf.GGUFReader(tiny.path), read_header(tiny.path)
    assert [(one.name, one.values_n, header.weights_start + one.offset) for one in header.tensors] == [
        (one.name, int(one.n_elements), int(one.data_offset)) for one in reader.tensors
    ]
    assert header.metadata["llama.rope.freq_base"] == 5000.0 and header.metadata["tokenizer.ggml.tokens"] == 263


def test_every_architecture_that_is_promised_has_a_causal_model() -> None:
    """What transformers adds to its table later is a causal model, or belongs to the names that are left out; the page lists all."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    spelled = {"gemma3": "gemma3_text", "qwen35": "qwen3_5_text", "qwen35moe": "qwen3_5_moe_text", "qwen2moe": "qwen2_moe",
               "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss", "minimax-m2": "minimax_m2"}  # fmt: skip
    assert {spelled.get(name, name) for name in architectures()} <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    page = (ROOT / "docs" / "ARCHITECTURES.md").read_text().partition("## A GGUF file")[2]
    assert all(f"`{name}`" in page for name in architectures())


@pytest.mark.full
def test_the_real_model_is_whole_and_writes_a_sentence() -> None:
    """Gemma 3 270M, where `make real-model` has unpacked it."""
    if not (REAL / "model.safetensors").is_file():
        pytest.skip("no real model: `make real-model` brings it")
    with safe_open(REAL / "model.safetensors", framework="numpy") as weights:
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118
    lm = load(REAL, dtype="float32", attention="sdpa")
    assert sum(weight.numel() for weight in lm.model.parameters()) == 268_098_176
    tokens = lm.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    assert tokens[0, 0] == lm.tokenizer.bos_token_id
    with torch.inference_mode():
        written = lm.model.generate(tokens, max_new_tokens=12, do_sample=False)
    assert lm.tokenizer.decode(written[0, tokens.shape[1] :]).startswith(" the capital of the country of France")
