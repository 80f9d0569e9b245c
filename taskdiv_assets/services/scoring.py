"""Score a pool's prompts, and store the statistics in parts (see `storage.parts`), so that a kill loses little work.

Parts are under `scores/<identity>/`; workers (see `shards`) use a subfolder for each shard. The identity depends only on the
model, the template and the settings (see `graph.models.Models.scorer`). So parts are also used after the pool or the sample was
changed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taskdiv_assets.experiment import BaseModelSource, ConfidenceSource
from taskdiv_assets.graph.models import BATCHING, READING
from taskdiv_assets.graph.needs import scorers_n
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.confidence import Columns, Scorer, empty_columns
from taskdiv_assets.language_model.control_marks import holding
from taskdiv_assets.language_model.counted import notes_of
from taskdiv_assets.language_model.loading import LanguageModel, load, resolve_source
from taskdiv_assets.language_model.model_folder import read_config
from taskdiv_assets.language_model.texts import read_tokenizer
from taskdiv_assets.services import shards
from taskdiv_assets.storage import locks
from taskdiv_assets.storage.parts import Parts

SECONDS_KEY = b"score_s"
# Marks parts in which the text of a special token was read as text. Older parts have no mark.
TEXT_KEY = b"control_tokens"


class PromptScores:
    """The known statistics of a pool's prompts for one source of confidence."""

    def __init__(
        self,
        work: Work,
        source: ConfidenceSource,  # the model and the kind of score
        prompt_ids: Sequence[str],
        prompts: Sequence[str] | pa.ChunkedArray,  # (n,) texts as in the pool
        what: str,  # name of the progress report
        *,
        shard: str = "",  # name of the shard; empty if the prompts are no shard
        tuned: str = "",  # identity of the adapter that scores; `score` then needs the model with this adapter
    ) -> None:
        self.work, self.source, self.what = work, source, what
        self.is_pool = False  # True if row i is row i of raw_pool, which workers can read
        self.identity = work.lineage.models.scorer(source, tuned).identity
        self.parts = Parts(work.store, "scores", self.identity, *([shard] if shard else []))
        self.prompt_ids = np.array(prompt_ids)
        self.prompts = prompts if isinstance(prompts, pa.ChunkedArray) else pa.array(prompts, pa.large_string())
        self.columns = empty_columns(len(prompts))
        self.is_known = np.zeros(len(prompts), np.bool_)
        self.is_cut = np.zeros(len(prompts), np.bool_)
        self.seconds = np.zeros(len(prompts))  # time of a prompt's part divided by the part's number of prompts
        self.halvings_n = 0
        self._lm: LanguageModel | None = None
        self._find()

    @classmethod
    def of_pool(cls, work: Work, source: ConfidenceSource, what: str) -> Self:
        """Return the known scores of the pool, in the pool's order. Up to `$TASKDIV_SCORERS` workers may compute the others."""
        pool = work.read("raw_pool")
        scores = cls(work, source, pool["prompt_id"].to_pylist(), pool["prompt"], what)
        scores.is_pool = True
        return scores

    def score(self, wanted: NDArray[np.bool_], lm: LanguageModel | None = None) -> None:
        """Score the prompts that are True in `wanted` (n,) and have no scores yet. `lm` is the source's model if it is loaded.

        Raise RuntimeError if prompts have no stored scores although workers scored all shards.
        """
        rows = np.flatnonzero(wanted)
        known_n = int(self.is_known[rows].sum())
        if known_n == len(rows):
            return
        if self.is_pool and scorers_n():
            self._share_out(rows)
            return
        self._lm = lm or self._lm
        if held_n := int(self._is_held[rows].sum()):
            self.work.log(f"{held_n:,} prompts hold the text of a control token of this model; it is read as text")
        if self._lm is None:
            self._lm = load_source(self.work, self.source.model)
        scorer = Scorer(
            self._lm,
            self.work.render(self._texts(rows), self._template),
            max_new_tokens=self.work.experiment.confidence.max_new_tokens,
            of=self.source.of,
            name_of=lambda place: str(self.prompt_ids[rows[place]]),
            log=self.work.log,
        )
        self.is_cut[rows[scorer.cut]] = True
        progress = self.work.progress(self.what, "prompts")
        progress.before_n = known_n
        is_open = ~self.is_known[rows]
        work = scorer.work() * is_open / max(scorer.work()[is_open].sum(), 1.0)  # as shares of the work of this run
        done = 0.0
        progress(known_n, len(rows), share=done)  # the first batch of a large model takes minutes
        waiting: list[NDArray[np.int64]] = []
        tokens_n, started = 0, time.monotonic()
        self.parts.since_s = started
        for scored in scorer.run(self.is_known[rows]):
            places = rows[scored.positions]
            self.note(places, scored.columns)
            waiting.append(places)
            known_n += len(places)
            tokens_n += int(scored.columns["generated_n"].sum())
            done += float(work[scored.positions].sum())
            rate = f"{tokens_n / max(time.monotonic() - started, 1e-9):,.0f} tokens/s"
            progress(known_n, len(rows), rate, done)
            if self.parts.is_due(sum(map(len, waiting))):
                self._put(waiting)
        self._put(waiting)
        self.halvings_n += scorer.room.halvings_n

    def _put(self, waiting: list[NDArray[np.int64]]) -> None:
        """Store the rows in `waiting` as one part, and clear the list. The name of a part depends only on its prompts."""
        if waiting:
            rows = np.concatenate(waiting)
            score_s = round(time.monotonic() - self.parts.since_s, 3)
            part = self.known(rows, score_s)
            self.parts.put(part, hashlib.sha256("\n".join(part["prompt_id"].to_pylist()).encode()).hexdigest()[:16])
            self.seconds[rows] = score_s / len(rows)
            waiting.clear()

    def _share_out(self, rows: NDArray[np.int64]) -> None:
        open_rows = rows[~self.is_known[rows]]
        progress = self.work.progress(self.what, "prompts")
        progress.before_n = done_n = len(rows) - len(open_rows)
        cut = shards.cut(open_rows, self.prompt_ids, scorers_n())
        with progress:
            progress(done_n, len(rows))
            for result in shards.share_out(self.work, partial(shard_scorer, source=self.source), cut, scorers_n()):
                done_n += result["prompts_n"]
                self.halvings_n += result["halvings_n"]
                progress(done_n, len(rows), f"shard {result['shard']} by process {result['worker']}")
        self._find()
        if missing_n := int((~self.is_known[rows]).sum()):
            raise RuntimeError(f"{missing_n} prompts are in no part though their shards were scored")

    def _texts(self, rows: NDArray[np.int64]) -> list[str]:
        found: list[str] = self.prompts.take(pa.array(rows)).to_pylist()
        return found

    @cached_property
    def _template(self) -> str:
        model, models = self.source.model, self.work.lineage.models
        return self.work.template if model is None else self.work.template_for(models.proxy(model).identity)

    def _find(self) -> None:
        import pandas as pd

        place_of = pd.Index(self.prompt_ids)
        for part in self.parts.read(self._skip, _is_whole):
            places = place_of.get_indexer(part["prompt_id"].to_numpy())
            rows = np.flatnonzero(places >= 0)
            places = places[rows]
            if TEXT_KEY not in part.schema.metadata:
                is_same = ~self._is_held[places]
                rows, places = rows[is_same], places[is_same]
            self.note(places, {name: part[name].to_numpy()[rows] for name in self.columns})
            self.is_cut[places] = part["is_cut"].to_numpy()[rows]
            self.seconds[places] = float(part.schema.metadata[SECONDS_KEY]) / part.num_rows

    @cached_property
    def _is_held(self) -> NDArray[np.bool_]:
        return holding(self.prompts, self.work.lineage.models.control(self.source.model))

    def _skip(self, where: str) -> None:
        self.work.log(f"{where} is not a whole part of these scores and is skipped; its prompts are scored again")

    def note(self, places: NDArray[np.int64], columns: Columns) -> None:
        for name, values in columns.items():
            self.columns[name][places] = values
        self.is_known[places] = True

    def known(self, rows: NDArray[np.int64], score_s: float) -> pa.Table:
        """Return a part: the statistics of `rows`, sorted by prompt_id. `score_s` is the time of their computation in seconds."""
        rows = rows[np.argsort(self.prompt_ids[rows])]
        columns = {name: pa.array(values[rows]) for name, values in self.columns.items()}
        part = pa.table({"prompt_id": self.prompt_ids[rows].tolist(), **columns, "is_cut": self.is_cut[rows]})
        return part.cast(PART_SCHEMA).replace_schema_metadata({SECONDS_KEY: f"{score_s:.3f}", TEXT_KEY: "text"})


PART_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string()),
        *(pa.field(name, pa.from_numpy_dtype(values.dtype)) for name, values in empty_columns(0).items()),
        pa.field("is_cut", pa.bool_()),
    ]
)


def _is_whole(table: pa.Table) -> bool:
    try:
        float(table.schema.metadata[SECONDS_KEY])
    except (KeyError, TypeError, ValueError):
        return False
    return bool(table.schema.equals(PART_SCHEMA)) and not any(column.null_count for column in table.columns)


def shard_scorer(work: Work, source: ConfidenceSource) -> shards.Task:
    """Load the model, and return a worker's task. The task scores the prompts of one shard and stores their parts."""
    lm = load_source(work, source.model)

    def score(shard: shards.Shard) -> Mapping[str, Any]:
        ids, prompts = shards.pool_rows(work, shard.rows)
        scores = PromptScores(work, source, ids, prompts, f"shard {shard.name}", shard=shard.name)
        scores.score(np.ones(len(ids), np.bool_), lm)
        return {"prompts_n": len(ids), "halvings_n": scores.halvings_n}

    return score


def load_base(work: Work, tuned: str | None = None) -> LanguageModel:
    """Load the base model, or the fully tuned model with the identity `tuned`.

    A tuned model gets the base model's number format and attention implementation.
    """
    footer = work.lineage.fresh(Unit("base_model"))
    folder = work.store.fetch_folder(tuned or footer.identity)
    return load(folder, dtype=footer.notes["dtype"], attention=footer.notes["attention"])


def load_source(work: Work, source: BaseModelSource | None) -> LanguageModel:
    """Load the base model if `source` is None, otherwise a proxy model. The files of a proxy model are stored first."""
    if source is None:
        return load_base(work)
    resolve_proxy(work, source)
    proxy = work.lineage.models.proxy(source)
    return load(work.store.fetch_folder(proxy.identity), dtype=proxy.dtype, attention=proxy.attention)


def resolve_proxies(work: Work, sources: Iterable[ConfidenceSource]) -> bool:
    """Store the files of the sources' proxy models. Return True if at least one model was not stored before.

    Identities depend on how a model reads texts, which is known only from its stored files. So a new proxy model may change
    identities.
    """
    models = [source.model for source in sources if source.model is not None]
    return sum(resolve_proxy(work, model) for model in models) > 0


def resolve_proxy(work: Work, source: BaseModelSource) -> bool:
    """Store the files of a proxy model, with notes on how the model reads texts. Return False if they were stored before."""
    identity = work.lineage.models.proxy(source).identity
    with locks.hold(work.store, identity, on_wait=work.wait):
        if work.store.is_whole(identity):
            return False
        progress = work.progress("preparing the proxy model", "steps")
        with work.store.scratch() as folder:
            resolved = resolve_source(source, work.experiment.pool, folder, progress)
            kept = {name: getattr(resolved, name) for name in ("source", "revision", "parameters_n")}
            kept |= resolved.unpacking()
            notes = {**kept, READING: read_tokenizer(folder).notes(), BATCHING: notes_of(read_config(folder))}
            work.store.write_folder(identity, folder, notes=notes)
    return True
