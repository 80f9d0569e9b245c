"""Search for prompts and answers that contain the text of a model's special token, such as an end token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import pyarrow as pa

from taskdiv_assets.experiment import BaseModelSource
from taskdiv_assets.graph.models import Models
from taskdiv_assets.language_model.control_marks import SETTING, holding, rule_out


class Held:
    """Cached search for the prompts and answers of an experiment that contain the text of a special token."""

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
