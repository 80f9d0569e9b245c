"""Sentence embedders in the format of sentence-transformers, which model2vec writes too. The library is an optional extra.

Only configurations, tokenizers and safetensors of a model's folder are used, and only module classes in `MODULES`. So no code of
a model runs, and no pickled weights are read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from taskdiv_assets.experiment.view_settings import EmbedderSource
from taskdiv_assets.language_model import model_folder
from taskdiv_assets.language_model.faults import explained, first_line
from taskdiv_assets.language_model.loading import chosen_device
from taskdiv_assets.language_model.quiet import quiet

NEEDED = ("*.json", "*.safetensors", "*.model", "vocab.txt", "merges.txt")
NOT_NEEDED = ("onnx/*", "openvino/*")
MODULES = ("Transformer", "StaticEmbedding", "Pooling", "Dense", "LayerNorm", "Normalize")
NAMESPACE = "sentence_transformers."
LIST = "modules.json"
KIND = "sentence embedder"  # start of messages
BATCH_N = 32  # texts that are read at once
BLOCK_N = 1_024  # texts between two reports of progress; within a block, texts of similar length are read together
FLOAT32_N = 4  # bytes of a number
INSTALL = "install the extra with `pip install 'taskdiv-assets[embedders]'`"


class Encoder:
    """A loaded sentence embedder."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.dimensions_n = self._encode(["a"]).shape[1]

    def vectors_of(
        self, texts: Sequence[str], tell: Callable[[int, int, float], None] | None = None
    ) -> np.ndarray[Any, np.dtype[np.float16]]:  # (n, d)
        """Return the embeddings of texts, scaled to length 1; 0 for a text without a token that the embedder knows.

        A text that is longer than the embedder's limit loses its end. Raise ValueError if an embedding is not finite.
        """
        found = np.zeros((len(texts), self.dimensions_n), np.float16)
        for start in range(0, len(texts), BLOCK_N):
            block = self._encode(list(texts[start : start + BLOCK_N]))
            lengths = np.linalg.norm(block, axis=1, keepdims=True)
            if not np.isfinite(lengths).all():
                raise ValueError(
                    "the sentence embedder gives numbers that are not finite; the weights are damaged, or their number format "
                    "overflows"
                )
            found[start : start + len(block)] = np.divide(block, lengths, out=np.zeros_like(block), where=lengths > 0)
            if tell:
                tell(start + len(block), len(texts), (start + len(block)) / len(texts))
        return found

    def _encode(self, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        with quiet():
            found = self._model.encode(texts, batch_size=BATCH_N, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(found, np.float64)


def load_encoder(source: EmbedderSource) -> Encoder:
    """Load a sentence embedder, to a GPU if there is one.

    Raises:
        ValueError: sentence-transformers is not installed, the model cannot be fetched, or its folder is not usable.
    """
    require_library()
    from sentence_transformers import SentenceTransformer

    with found_folder(source) as origin, TemporaryDirectory() as place:
        folder = Path(place)
        _copy(origin, folder)
        _check(folder, origin)
        with quiet(), explained(origin, "the model", "copy its folder again", KIND):
            model = SentenceTransformer(
                str(folder),
                device=str(chosen_device()),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        return Encoder(model.eval())


def require_library() -> None:
    """Raise ValueError if sentence-transformers is not installed."""
    if find_spec("sentence_transformers") is None:
        raise ValueError(f"`view: {{sentence_embedder: …}}` needs sentence-transformers; {INSTALL}")


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each needed file of a sentence embedder in a local folder. The keys are paths in the folder.

    Raises:
        ValueError: the folder is missing, or has no list of modules or no safetensors.
    """
    from taskdiv_assets.storage.store import sha256_file

    return {name: sha256_file(folder / name) for name in _checked_names(folder)}


def _checked_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"{KIND} {folder}: there is no such folder")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if is_needed(name)]
    if LIST not in names:
        raise ValueError(f"{KIND} {folder}: no {LIST}; expected a folder that sentence-transformers or model2vec saved")
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(
            f"{KIND} {folder}: no *.safetensors; weights in other formats may run code when read, so they are not used"
        )
    return names


def memory_bytes(folder: Path) -> int:
    """Predict the memory of a sentence embedder in a local folder: its weights in float32, and a batch of the longest texts.

    A batch counts as 0 if the folder does not say how long a text may be.

    Raises:
        ValueError: the folder cannot be used (see `fingerprint`), or a weight file is damaged.
    """
    from safetensors import SafetensorError

    names = _checked_names(folder)
    folders = {(folder / name).parent for name in names if name.endswith(".safetensors")}
    try:
        weights_n = sum(map(model_folder.count_parameters, folders))
    except SafetensorError as error:
        raise ValueError(
            f"{KIND} {folder}: a weight file is damaged or was cut short ({error}); copy it again"
        ) from None
    sizes: dict[str, int] = {}
    for name in names:
        if PurePosixPath(name).name in ("config.json", "sentence_bert_config.json"):
            sizes |= {key: value for key, value in _read_settings(folder / name).items() if isinstance(value, int)}
    length_n = sizes.get("max_seq_length", sizes.get("max_position_embeddings", 0))
    a_token_n = 4 * sizes.get("hidden_size", 0) + 2 * sizes.get("intermediate_size", 0)
    a_token_n += length_n * sizes.get("num_attention_heads", 0)  # for attention that is not computed in blocks
    return FLOAT32_N * (weights_n + BATCH_N * length_n * a_token_n)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


@contextmanager
def found_folder(source: EmbedderSource) -> Iterator[Path]:
    """Yield the local folder of a sentence embedder. A model of the hub is downloaded unless it is in the hub's cache."""
    if source.path is not None:
        yield Path(source.path)
        return
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with quiet():
            folder = snapshot_download(
                str(source.hub), revision=source.revision, allow_patterns=list(NEEDED), ignore_patterns=list(NOT_NEEDED)
            )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"{KIND} {source.hub} at revision {source.revision} cannot be fetched from the hub "
            f"({type(error).__name__}: {first_line(error)}); check both names, your access and the network, or give a local copy "
            "as `sentence_embedder: {path: …}`"
        ) from error
    yield Path(folder)


def is_needed(name: str) -> bool:
    """Return True if a file of a sentence embedder is used. `name` is its path in the folder."""
    is_wanted = any(fnmatch(PurePosixPath(name).name, pattern) for pattern in NEEDED)
    return is_wanted and not any(fnmatch(name, pattern) for pattern in NOT_NEEDED)


def _copy(origin: Path, folder: Path) -> None:
    """Copy the needed files, so that other files, such as code and pickles, cannot be read. Weights are linked."""
    for name in _checked_names(origin):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            target.symlink_to((origin / name).resolve())
        else:
            shutil.copyfile(origin / name, target)


def _check(folder: Path, origin: Path) -> None:
    """Raise ValueError if the list of modules is damaged or names another class, or if a transformer lacks weights."""
    advice = f"expected a list of modules, each with `path` and `type` ({', '.join(MODULES)})"
    try:
        modules = json.loads((folder / LIST).read_bytes())
        kinds = {str(one["path"]): str(one["type"]) for one in modules}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{KIND} {origin}: {LIST} cannot be read; {advice}") from None
    for path, kind in kinds.items():
        if not kind.startswith(NAMESPACE) or kind.rpartition(".")[2] not in MODULES:
            raise ValueError(f"{KIND} {origin}: module {kind!r:.100} is not used, it may run code; {advice}")
        if ".." in PurePosixPath(path).parts or path.startswith("/"):
            raise ValueError(f"{KIND} {origin}: {path!r:.100} leaves the folder; {advice}")
        if kind.endswith(".Transformer"):
            _check_transformer(folder / path, origin)


def _check_transformer(folder: Path, origin: Path) -> None:
    """Raise ValueError if a weight is missing. transformers only warns of it, and fills it with random numbers."""
    from transformers import AutoModel

    options = {"output_loading_info": True, "use_safetensors": True, "device_map": "meta", "local_files_only": True}
    with quiet(), explained(origin, "the model", "expected configuration and weights of one model", KIND):
        _, info = AutoModel.from_pretrained(folder, trust_remote_code=False, **options)
    missing = sorted(
        str(name) for name in info["missing_keys"] if "pooler" not in str(name)
    )  # embeddings need no pooler
    if missing:
        raise ValueError(
            f"{KIND} {origin}: {len(missing)} tensor(s) are not in the weight files, the first is {missing[0]}; they would be "
            "filled with random numbers; copy the whole model"
        )
