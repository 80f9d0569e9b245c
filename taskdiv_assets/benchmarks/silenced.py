"""lm-eval without its noise, and without compiling the same templates again and again; errors still come through."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

NOISY = ("lm_eval", "transformers", "datasets")
Row = TypeVar("Row")


@contextmanager
def quiet() -> Iterator[None]:
    """Raise the level of noisy loggers to ERROR, and hide the one progress bar of lm-eval that has no switch."""
    from lm_eval.api import task as harness_task

    levels = {name: logging.getLogger(name).level for name in NOISY}
    bar = harness_task.tqdm
    try:
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
        harness_task.tqdm = _without_bar
        yield
    finally:
        harness_task.tqdm = bar
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def cached_templates() -> Iterator[None]:
    """Let lm-eval compile a Jinja template once: it does so for every text of every item, 83 s for all prompts of MMLU."""
    from lm_eval import utils

    compiled = utils.env.from_string
    utils.env.from_string = lru_cache(maxsize=1024)(compiled)
    try:
        yield
    finally:
        utils.env.from_string = compiled


def _without_bar(rows: Iterable[Row], **_settings: object) -> Iterable[Row]:
    """What `tqdm(rows)` gives, without the bar."""
    return rows
