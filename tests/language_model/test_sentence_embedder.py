"""Sentence embedders: what is read of their folders, and what is refused. The small model here is static, as model2vec writes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from taskdiv_assets.experiment.view_settings import EmbedderSource
from taskdiv_assets.language_model import sentence_embedder
from taskdiv_assets.language_model.sentence_embedder import fingerprint, load_encoder

WORDS = ("[UNK]", "reset", "password", "refund", "order")
WEIGHTS = np.random.default_rng(5).normal(size=(len(WORDS), 8)).astype(np.float32)
WEIGHTS[0] = 0  # an unknown word


def write_static(folder: Path) -> Path:
    """Write a static embedder: the embedding of a text is the mean of its words' rows, scaled to length 1."""
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embedding.weight": WEIGHTS}, str(folder / "model.safetensors"))
    (folder / "2_Normalize").mkdir()
    listed = [("", "models.StaticEmbedding"), ("2_Normalize", "models.Normalize")]
    write_modules(folder, *((path, f"sentence_transformers.{kind}") for path, kind in listed))
    return folder


def write_modules(folder: Path, *modules: tuple[str, str]) -> None:
    rows = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(rows))


@pytest.fixture
def static(tmp_path: Path) -> Path:
    return write_static(tmp_path / "static")


def test_a_text_is_the_unit_mean_of_its_words_and_unknown_text_is_zero(static: Path) -> None:
    pytest.importorskip("sentence_transformers")
    (static / "evil.py").write_text("raise RuntimeError('the code of a model ran')")
    told: list[tuple[int, int, float]] = []
    encoder = load_encoder(EmbedderSource(path=str(static)))
    texts = ["reset password", "refund", "unknown"] * 400
    found = encoder.vectors_of(texts, lambda *one: told.append(one))
    means = np.array([WEIGHTS[[1, 2]].mean(axis=0), WEIGHTS[3], np.zeros(8)], np.float64)
    lengths = np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    assert found.dtype == np.float16 and np.abs(found - np.tile(means / lengths, (400, 1))).max() < 1e-3
    assert told == [(1024, 1200, 1024 / 1200), (1200, 1200, 1.0)]


def test_the_fingerprint_is_of_the_files_that_are_read(static: Path) -> None:
    before = fingerprint(static)
    assert set(before) == {"model.safetensors", "modules.json", "tokenizer.json"}
    (static / "README.md").write_text("read me")
    (static / "pytorch_model.bin").write_bytes(b"a pickle")
    assert fingerprint(static) == before
    (static / "2_Normalize" / "config.json").write_text("{}")
    assert fingerprint(static) != before


@pytest.mark.parametrize(
    ("path", "kind", "sentence"),
    [
        ("", "os.system", "module 'os.system' is not used, it may run code"),
        ("", "sentence_transformers.models.WordEmbeddings", "is not used, it may run code"),
        ("../other", "sentence_transformers.models.Normalize", "'../other' leaves the folder"),
    ],
)
def test_modules_that_could_run_code_or_leave_the_folder_are_refused(
    static: Path, path: str, kind: str, sentence: str
) -> None:
    pytest.importorskip("sentence_transformers")
    write_modules(static, (path, kind))
    with pytest.raises(ValueError, match="^sentence embedder ") as caught:
        load_encoder(EmbedderSource(path=str(static)))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_folder_is_refused_in_one_sentence(static: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    (static / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="a weight file is damaged or was cut short"):
        sentence_embedder.memory_bytes(static)
    with pytest.raises(ValueError, match=r"static: the model cannot be used \(.*\); copy its folder again$"):
        load_encoder(EmbedderSource(path=str(static)))
    (static / "modules.json").write_text("[1")
    with pytest.raises(ValueError, match=r"modules.json cannot be read; expected a list of modules"):
        load_encoder(EmbedderSource(path=str(static)))


def test_other_folders_are_refused_in_one_sentence(static: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        fingerprint(tmp_path / "missing")
    (static / "model.safetensors").rename(static / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no \*.safetensors; weights in other formats may run code when read"):
        fingerprint(static)
    (static / "modules.json").unlink()
    with pytest.raises(
        ValueError, match="no modules.json; expected a folder that sentence-transformers or model2vec saved"
    ):
        fingerprint(static)


def test_a_missing_library_and_a_hub_that_cannot_be_reached_are_named(
    static: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = EmbedderSource(hub="owner/name", revision="abc")
    with (
        pytest.raises(ValueError, match="owner/name at revision abc cannot be fetched from the hub"),
        sentence_embedder.found_folder(source),
    ):
        pass
    monkeypatch.setattr(sentence_embedder, "find_spec", lambda _: None)
    with pytest.raises(
        ValueError, match=r"needs sentence-transformers; install .*pip install 'taskdiv-assets\[embedders\]'"
    ):
        load_encoder(EmbedderSource(path=str(static)))


@pytest.mark.full
def test_a_transformer_with_a_missing_tensor_is_refused(shared_data: Path, tmp_path: Path) -> None:
    """stories260K as an embedder: whole, its embeddings are those of plain transformers; without one tensor, it is refused."""
    pytest.importorskip("sentence_transformers")
    import torch
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save_torch
    from transformers import AutoModel, AutoTokenizer

    stories, folder = shared_data / "models" / "stories260K", tmp_path / "embedder"
    folder.mkdir()
    for path in stories.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": "</s>"}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 64, "pooling_mode_mean_tokens": true}'
    )
    named = [("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]
    write_modules(folder, *named)
    found = load_encoder(EmbedderSource(path=str(folder))).vectors_of(["once upon a time", "a dog"])
    model, tokenizer = AutoModel.from_pretrained(stories).eval(), AutoTokenizer.from_pretrained(stories)
    for row, text in zip(found, ["once upon a time", "a dog"], strict=True):
        with torch.inference_mode():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].double().mean(0)
        assert np.abs(row - (mean / mean.norm()).numpy()).max() < 2e-3
    weights = load_file(folder / "model.safetensors")
    weights.pop(sorted(name for name in weights if "mlp" in name)[0])
    save_torch(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 tensor\(s\) are not in the weight files, the first is .*mlp"):
        load_encoder(EmbedderSource(path=str(folder)))
