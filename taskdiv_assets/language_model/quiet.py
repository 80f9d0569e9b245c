"""Context managers that suppress the progress bars, advice and warnings of libraries. Errors are still raised."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

HARNESS_LOGGERS = ("lm_eval", "transformers", "datasets")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the progress bars of transformers, its messages below the level of an error, and all Python warnings."""
    from transformers.utils import logging as theirs

    before, had_bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.set_verbosity(before)
        if had_bars:
            theirs.enable_progress_bar()


@contextmanager
def quiet_datasets() -> Iterator[None]:
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Suppress a progress bar of lm-eval that has no switch. Of lm-eval, transformers and datasets, log only errors."""
    from lm_eval.api import task as harness_task

    levels = {name: logging.getLogger(name).level for name in HARNESS_LOGGERS}
    bar = harness_task.tqdm
    try:
        for name in HARNESS_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        harness_task.tqdm = lambda rows, **_settings: rows
        yield
    finally:
        harness_task.tqdm = bar
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def quiet_gguf() -> Iterator[None]:
    """Suppress the same as `quiet`, and the progress bar of transformers' GGUF reader, which has no switch."""
    from transformers import modeling_gguf_pytorch_utils as reader

    bar = reader.tqdm
    try:
        reader.tqdm = lambda rows, **_settings: rows
        with quiet():
            yield
    finally:
        reader.tqdm = bar


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Suppress the warning of PEFT 0.21 about a name that transformers 5.23 changed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing")
        yield
