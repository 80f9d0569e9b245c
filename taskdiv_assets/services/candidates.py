"""The models that are scored for a cell: adapters over one loaded base model, or fully tuned models one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from taskdiv_assets.benchmarks.adapters import loaded_adapters
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.loading import LanguageModel, release_memory
from taskdiv_assets.services.scoring import load_base


class Candidates(ExitStack):
    """Models by training seed (None: the base model), loaded on first use. `folders` contains the identities of their folders."""

    def __init__(self, work: Work, folders: Mapping[int | None, str]) -> None:
        super().__init__()
        self.work, self.folders = work, folders
        self.are_whole = work.experiment.tuning.method == "full" and None not in folders
        self._base: LanguageModel | None = None
        self._whole: tuple[int | None, LanguageModel] | None = None

    def activate(self, seed: int | None) -> LanguageModel:
        """Return the model of one seed. Adapters share one base model, so only the adapter activated last is active."""
        if self.are_whole:
            return self._load_whole(seed)
        if self._base is None:
            self._base = load_base(self.work)
            adapters = [(one, folder) for one, folder in self.folders.items() if one is not None]
            paths = {one: self.enter_context(self.work.store.fetched(folder)) for one, folder in adapters}
            if paths:
                self._activate = self.enter_context(loaded_adapters(self._base, paths))
        if seed is not None or len(self.folders) > 1:
            self._activate(seed)
        return self._base

    def _load_whole(self, seed: int | None) -> LanguageModel:
        if self._whole is None or self._whole[0] != seed:
            if self._whole is not None:  # free the previous model: two models may not fit in memory
                self._whole = None
                release_memory()
            with self.work.store.fetched(self.folders[seed]):
                self._whole = (seed, load_base(self.work, self.folders[seed]))
        return self._whole[1]
