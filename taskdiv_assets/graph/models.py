"""The models of an experiment and their identities: the base model, which is an asset, and its proxies.

A proxy is a model that computes confidences instead of the base model. `language_model.loading` loads models.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from data_contracts.footer import Footer
from taskdiv_assets.experiment import BaseModelSource, ConfidenceSource, Experiment
from taskdiv_assets.graph.units import Expectation, StaleInputError, Unit
from taskdiv_assets.language_model.batching import FIXED_SHAPES
from taskdiv_assets.language_model.control_marks import SETTING, SIGNS, holding, names_in_files, rule_out
from taskdiv_assets.language_model.gguf_base import check_gguf, is_gguf
from taskdiv_assets.language_model.loading import DtypeChoice, choose_attention, choose_dtype
from taskdiv_assets.language_model.model_folder import is_needed, model_fingerprint
from taskdiv_assets.language_model.texts import CONTROL, PINNED, without_start
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.identity import digest, identity
from taskdiv_assets.storage.store import Store, sha256_file

BASE_MODEL_VERSION = 1  # code version of base_model and of proxies
SCORES_VERSION = 2  # code version of confidence_table and of the statistics of single prompts
READING = "reading"  # name of a note of a model: how its tokenizer reads texts
Padding = Literal["gap", "left", "right"]  # see `language_model.counted.Counted`
BATCHING = "batching"  # name of a note of a model: how the model treats batches (`language_model.counted.notes_of`)


class Proxy(NamedTuple):
    """The identity of a proxy, its number format, and its implementation of attention, such as `sdpa`."""

    identity: str
    dtype: str
    attention: str


def folder_hash(path: str, marks: dict[str, str]) -> str:
    """Return the hash of a model's files at a path or URL. The hash of a GGUF file is its SHA-256.

    `marks` maps marks of remote sources (see `remote.mark`) to known hashes. A new hash is added, unless the source has no mark.

    Raises:
        ValueError: there is no usable model at the path or URL.
        OSError: the path or URL cannot be read.
    """
    if is_gguf(path):

        def read_file() -> str:
            with remote.fetched(path) as file:
                check_gguf(file, path)
                return sha256_file(file)

        return remote.known_or(remote.mark(path) if remote.is_remote(path) else None, marks, read_file)

    def read() -> str:
        with remote.fetched_folder(path, is_needed) as folder:
            return digest(model_fingerprint(folder))

    return remote.known_or(remote.folder_mark(path, is_needed) if remote.is_remote(path) else None, marks, read)


class Models:
    """The models of one experiment. `footer` and `fresh` are the methods of `Lineage` that return a stored footer."""

    def __init__(
        self,
        experiment: Experiment,
        footer: Callable[[Unit], Footer | None],
        fresh: Callable[[Unit], Footer],
        store: Store | None = None,
    ) -> None:
        self.experiment, self._footer, self._fresh, self._store = experiment, footer, fresh, store
        self._fingerprints: dict[str, str] = {}
        self._proxy_notes: dict[str, Mapping[str, Any]] = {}

    @cached_property
    def decision(self) -> dict[str, str]:
        """Number format and attention implementation of the base model, with reasons.

        Both are chosen once and stored with the model. They are chosen again only if the model's settings, except its path,
        change. By default, the model of the lab (the built-in demo) is float32 on every machine: no other format is faster for so
        small a model.
        """
        footer = self._footer(Unit("base_model"))
        requested = self.experiment.base.dtype
        names = ("dtype", "dtype_reason", "attention", "attention_reason", "decided_for")
        decided_for = digest(self.experiment.base.model_dump(exclude={"path"}))
        if footer is not None and footer.notes.get("decided_for") == decided_for:
            return {name: footer.notes[name] for name in names}
        if self.experiment.has_lab_model and requested == "auto":
            dtype = DtypeChoice("float32", "the lab's model is so small that nothing else is faster")
        else:
            dtype = choose_dtype(requested)
        return dict(zip(names, (*dtype, *choose_attention(dtype.dtype), decided_for), strict=True))

    def settings(self, source: BaseModelSource, dtype: str) -> dict[str, object]:
        """Return the settings in a model's identity. The hash of a local model's files is not among them."""
        settings: dict[str, object] = {"revision": source.revision, "hub": source.hub}
        if source.lab is not None:
            settings |= {"lab": source.lab.model_dump(), "tasks": self.experiment.pool.tasks}
        return settings | {"dtype": dtype, "attention": self.decision["attention"]}

    def proxy(self, source: BaseModelSource) -> Proxy:
        """Return the identity, the number format and the attention implementation of a proxy.

        `dtype: auto` means float32 for the lab's models, and otherwise the format of the base model. Raise StaleInputError if
        the files of a local model cannot be read.
        """
        wanted = "float32" if source.lab is not None else self.decision["dtype"]
        dtype = wanted if source.dtype == "auto" else source.dtype
        inputs = {"source/0": self._fingerprint(source.path)} if source.path else {}
        settings = self.settings(source, dtype)
        made_of = identity("proxy_model", BASE_MODEL_VERSION, settings, inputs)
        attention = self.decision["attention"]  # FlashAttention does not support float32
        return Proxy(made_of, dtype, "sdpa" if dtype == "float32" else attention)

    def _fingerprint(self, path: str) -> str:
        if path not in self._fingerprints:
            try:
                self._fingerprints[path] = folder_hash(path, {})
            except (ValueError, OSError) as error:
                raise StaleInputError(f"the model that scores instead of the base cannot be read: {error}") from None
        return self._fingerprints[path]

    def scorer(self, source: ConfidenceSource, tuned: str = "") -> Expectation:
        """Return the identity and the inputs of the statistics that are stored for each prompt.

        `tuned` is the identity of an adapter (or of a fully tuned model) that scores; by default, the model of `source` scores.

        The identity does not depend on the set of prompts or the definition of confidence. So no prompt is scored again after
        a change of the pool, the sample or the definition. Raise StaleInputError if the model is not fresh or cannot be read.
        """
        model = source.model
        made_by = self._fresh(Unit("base_model")).identity if model is None else self.proxy(model).identity
        settings: dict[str, object] = {"of": source.of, "template": self.template, "shapes": FIXED_SHAPES}
        settings |= self.batching("left" if source.of == "continuation" else "right", source=model)
        if source.of == "continuation":
            settings["max_new_tokens"] = self.experiment.confidence.max_new_tokens
        inputs = {"base_model" if model is None else "proxy_model": made_by, **({"adapter": tuned} if tuned else {})}
        return Expectation(identity("prompt_scores", SCORES_VERSION, settings, inputs), inputs)

    @property
    def template(self) -> list[object]:
        """Settings for identities: the prompt template, whether the chat template of the model's files is used, and `marks`."""
        return [without_start(self.experiment.prompt_template, self.start), self.experiment.chat_template, *self.marks]

    @property
    def training_template(self) -> list[object]:
        """`template`, with one more entry if the base model's rotary frequencies change at a length below `tuning.max_length`."""
        switches = self._notes(BATCHING).get("switches", [])
        passed = [one for one in switches if one < self.experiment.tuning.max_length]
        return [*self.template, *([f"apart beyond {passed} tokens"] if passed else [])]

    def batching(self, *paddings: Padding, source: BaseModelSource | None = None) -> dict[str, object]:
        """Return settings for identities if a model's results depend on a text's length or on a padding in `paddings`, else {}.

        The model is the proxy `source`, or the base model if `source` is None. The results of most models depend on neither. If
        those of a model do, its identities must differ from those of earlier versions, which padded all texts. Raise
        StaleInputError if the stored files of a proxy are damaged, or if `proxy` raises it.
        """
        notes = self._notes(BATCHING, source)
        found: list[object] = [padding for padding in paddings if notes.get(padding)]
        found += notes.get("switches", [])
        return {BATCHING: found} if found else {}

    @property
    def start(self) -> str:
        """Text of the start token that the base model's tokenizer adds to every text.

        Empty if the tokenizer adds none, if the chat template is used, or if an earlier version of this program stored the model.
        """
        return "" if self.experiment.chat_template else str(self._notes(READING).get("start", ""))

    @property
    def marks(self) -> list[str]:
        """Phrases for identities, one per deviation from the base model's files: no end token after texts, a fixed date."""
        found = ["no end token after a text"] if self._notes(READING).get("ended_texts") else []
        if self._notes(READING).get("reads_clock") and self.experiment.chat_template:
            found.append(f"dates of {PINNED:%Y-%m-%d}")
        return found

    def control(self, source: BaseModelSource | None = None) -> tuple[str, ...]:
        """Return the texts of the special tokens of the base model or of a proxy; empty if they are not stored yet.

        Raise StaleInputError if the stored files of a proxy are damaged, or if `proxy` raises it.
        """
        return tuple(self._notes(READING, source).get(CONTROL, ()))

    def _of_proxy(self, source: BaseModelSource) -> Mapping[str, Any]:
        """Return the notes in the manifest of a proxy's folder; empty without a store, or if the folder does not exist yet.

        A folder that an earlier version stored has no note READING. This function then makes the note from the special tokens in
        the folder's tokenizer files.

        Raises:
            StaleInputError: the manifest or a tokenizer file is damaged, or `proxy` cannot read the files of a local model.
        """
        store, folder = self._store, self.proxy(source).identity
        if folder not in self._proxy_notes and store is not None:
            try:
                manifest = store.read_manifest(folder)
                notes = {} if manifest is None else manifest.get("notes", {})
                if manifest is not None and READING not in notes:
                    names = names_in_files(lambda name: store.get("folders", folder, name))
                    notes = {**notes, READING: {CONTROL: names}}
            except ValueError as error:
                raise StaleInputError(
                    f"the model that scores instead of the base cannot be read in {store.locate('folders', folder)}: {error}; "
                    f"remove this folder, and `taskdiv run {self.experiment.name}` fetches it again"
                ) from None
            self._proxy_notes[folder] = notes
        return self._proxy_notes.get(folder, {})

    def pool_signs(self, column: str) -> list[str] | None:
        """Return the stored result of `control_marks.signs_in` for a column of the pool; None if the result is not stored.

        Raise StaleInputError if the stored pool is not fresh.
        """
        found: list[str] | None = self._fresh(Unit("raw_pool")).notes.get(SIGNS, {}).get(column)
        return found

    def pool(self) -> pa.Table:
        self._fresh(Unit("raw_pool"))
        if self._store is None:
            raise ValueError("no store to read the pool from")
        return self._store.read_table("raw_pool").table

    def _notes(self, name: str, source: BaseModelSource | None = None) -> Mapping[str, Any]:
        """Return the note READING or BATCHING of the base model or of a proxy; empty if the note is not stored yet."""
        footer = self._footer(Unit("base_model")) if source is None else None
        notes = self._of_proxy(source) if source is not None else footer.notes if footer is not None else {}
        found: Mapping[str, Any] = notes.get(name, {})
        return found


class Held:
    """A cached search for those prompts and answers of an experiment that contain the text of a special token."""

    def __init__(self, models: Models, answers: Callable[[], Mapping[str, str | None]]) -> None:
        self.models, self._answers = models, answers
        self._found: dict[tuple[str, tuple[str, ...]], frozenset[str]] = {}

    def mark(self, model: BaseModelSource | None = None, columns: Sequence[str] = ("prompt",)) -> dict[str, object]:
        """Return a setting for identities if one of the pool's `columns` contains the text of a special token; otherwise {}.

        The special tokens are those of `model`, or of the base model if `model` is None.
        """
        names = self.models.control(model)
        return SETTING if any(self._holding(column, names) for column in columns) else {}

    @cached_property
    def pairs(self) -> frozenset[str]:
        """Ids of the prompts whose text or answer contains the text of a special token of the base model."""
        answers, names = self._answers(), self.models.control()
        held = holding(pa.array(answers.values(), pa.large_string()), names)
        return self._holding("prompt", names) | {name for name, is_held in zip(answers, held, strict=True) if is_held}

    def _holding(self, column: str, names: tuple[str, ...]) -> frozenset[str]:
        if not names or rule_out(names, self.models.pool_signs(column)):
            return frozenset()
        if (column, names) not in self._found:
            pool = self.models.pool()
            ids = pool["prompt_id"].filter(pa.array(holding(pool[column], names)))
            self._found[column, names] = frozenset(ids.to_pylist())
        return self._found[column, names]
