"""The models of an experiment: the identity of each, and of the statistics that they give of a prompt.

The base model is an asset. A proxy, which scores instead of it, is resolved when it is needed. `language_model.loading` loads
models; `lineage` knows which results depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from data_contracts.footer import Footer
from taskdiv_assets.experiment import BaseModelSource, ConfidenceSource, Experiment
from taskdiv_assets.graph.states import Expectation, StaleInputError
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model.batching import FIXED_SHAPES
from taskdiv_assets.language_model.control_marks import SIGNS, names_in_files
from taskdiv_assets.language_model.loading import DtypeChoice, choose_attention, choose_dtype
from taskdiv_assets.language_model.model_folder import is_needed, model_fingerprint
from taskdiv_assets.language_model.texts import CONTROL, PINNED, without_start
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.identity import digest, identity
from taskdiv_assets.storage.store import Store

BASE_MODEL_VERSION = 1  # code version of base_model, and of models that score in its place
SCORES_VERSION = 2  # code version of confidence_table, and of the statistics of single prompts
READING = "reading"  # note of a base model: how its tokenizer reads texts
Padding = Literal["gap", "left", "right"]  # see `language_model.counted.Counted`
BATCHING = "batching"  # note of a base model: the padding that it counts (`counted.notes_of`), and its switches


class Proxy(NamedTuple):
    """A model that scores instead of the base model."""

    identity: str
    dtype: str
    attention: str


def folder_hash(path: str, marks: dict[str, str]) -> str:
    """Return the hash of the files of a model at a path or URL; `marks` as in `remote.known_or`.

    Raises:
        ValueError: there is no usable model.
    """

    def read() -> str:
        with remote.fetched_folder(path, is_needed) as folder:
            return digest(model_fingerprint(folder))

    return remote.known_or(remote.folder_mark(path, is_needed) if remote.is_remote(path) else None, marks, read)


class Models:
    """The models of one experiment, in one look at the store."""

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
        """Number format and attention of the base model, with reasons; decided once, and kept with the stored model.

        The lab's own model is float32 everywhere: nothing else is faster at its size, and a demo is the same on all machines.
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
        """Return the settings that make a model, apart from the files of a local one."""
        settings: dict[str, object] = {"revision": source.revision, "hub": source.hub}
        if source.lab is not None:
            settings |= {"lab": source.lab.model_dump(), "tasks": self.experiment.pool.tasks}
        return settings | {"dtype": dtype, "attention": self.decision["attention"]}

    def proxy(self, source: BaseModelSource) -> Proxy:
        """Return the identity of a proxy, and the number format and attention that it is loaded with.

        The format is that of the base model unless the file names one; the lab's models are float32 everywhere.
        """
        wanted = "float32" if source.lab is not None else self.decision["dtype"]
        dtype = wanted if source.dtype == "auto" else source.dtype
        inputs = {"source/0": self._fingerprint(source.path)} if source.path else {}
        settings = self.settings(source, dtype)
        made_of = identity("proxy_model", BASE_MODEL_VERSION, settings, inputs)
        attention = self.decision["attention"]  # FlashAttention takes 16 bits only
        return Proxy(made_of, dtype, "sdpa" if dtype == "float32" else attention)

    def _fingerprint(self, path: str) -> str:
        if path not in self._fingerprints:
            try:
                self._fingerprints[path] = folder_hash(path, {})
            except (ValueError, OSError) as error:
                raise StaleInputError(f"the model that scores instead of the base cannot be read: {error}") from None
        return self._fingerprints[path]

    def scorer(self, source: ConfidenceSource) -> Expectation:
        """Return the identity of the statistics of any one prompt; their parts in the store are found by it.

        Which prompts are scored, and which statistic is called confidence, is not part of it. So a larger pool or sample, or
        another definition, scores nothing twice.
        """
        model = source.model
        made_by = self._fresh(Unit("base_model")).identity if model is None else self.proxy(model).identity
        settings: dict[str, object] = {"of": source.of, "template": self.template, "shapes": FIXED_SHAPES}
        settings |= self.batching("left" if source.of == "continuation" else "right", source=model)
        if source.of == "continuation":
            settings["max_new_tokens"] = self.experiment.confidence.max_new_tokens
        inputs = {"base_model" if model is None else "proxy_model": made_by}
        return Expectation(identity("prompt_scores", SCORES_VERSION, settings, inputs), inputs)

    @property
    def template(self) -> list[object]:
        """Text around a prompt, for identities, and `marks` if there are any; a model's chat template is part of its files."""
        return [without_start(self.experiment.prompt_template, self.start), self.experiment.chat_template, *self.marks]

    @property
    def training_template(self) -> list[object]:
        """`template`, with a mark if a model's rotary frequencies change within the length of an example."""
        switches = self._notes(BATCHING).get("switches", [])
        passed = [one for one in switches if one < self.experiment.tuning.max_length]
        return [*self.template, *([f"apart beyond {passed} tokens"] if passed else [])]

    def batching(self, *paddings: Padding, source: BaseModelSource | None = None) -> dict[str, object]:
        """Return what identities say of batches: the paddings that a model counts, and its switches. Empty for most models.

        Earlier versions padded all models alike, so only results of these models differ from theirs.

        Args:
            paddings: that occur in batches of the result in question.
            source: of a proxy; None for the base model.
        """
        notes = self._notes(BATCHING, source)
        found: list[object] = [padding for padding in paddings if notes.get(padding)]
        found += notes.get("switches", [])
        return {BATCHING: found} if found else {}

    @property
    def start(self) -> str:
        """Start token that the base's tokenizer adds to every text; empty if there is none, and for bases of earlier versions."""
        return "" if self.experiment.chat_template else str(self._notes(READING).get("start", ""))

    @property
    def marks(self) -> list[str]:
        """What is done differently for this base than its files say, so that identities show it; empty for most models."""
        found = ["no end token after a text"] if self._notes(READING).get("ended_texts") else []
        if self._notes(READING).get("reads_clock") and self.experiment.chat_template:
            found.append(f"dates of {PINNED:%Y-%m-%d}")
        return found

    def control(self, source: BaseModelSource | None = None) -> tuple[str, ...]:
        """Return the texts of the control tokens of the base, or of a proxy; empty until its files are in the store."""
        return tuple(self._notes(READING, source).get(CONTROL, ()))

    def _of_proxy(self, source: BaseModelSource) -> Mapping[str, Any]:
        """Return the notes of a proxy's folder; empty before it is resolved, which precedes every use of it.

        Raises:
            StaleInputError: the folder of an earlier version, which has no notes, contains a damaged file.
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
        """Return the signs of a column of the stored pool (`control_marks.signs_in`); None if they are not known."""
        found: list[str] | None = self._fresh(Unit("raw_pool")).notes.get(SIGNS, {}).get(column)
        return found

    def pool(self) -> pa.Table:
        """Return the stored pool, which is up to date."""
        self._fresh(Unit("raw_pool"))
        if self._store is None:
            raise ValueError("no store to read the pool from")
        return self._store.read_table("raw_pool").table

    def _notes(self, name: str, source: BaseModelSource | None = None) -> Mapping[str, Any]:
        """Return the notes READING or BATCHING of the base or of a proxy; empty until its files are in the store."""
        if source is not None:
            of_proxy: Mapping[str, Any] = self._of_proxy(source).get(name, {})
            return of_proxy
        footer = self._footer(Unit("base_model"))
        found: Mapping[str, Any] = footer.notes.get(name, {}) if footer is not None else {}
        return found
