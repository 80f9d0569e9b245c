"""Read AlpacaEval's optional file of difficulties. An index in the file is a position among AlpacaEval's 805 instructions.

The file is `instruction_difficulty.csv` or `df_gamed.csv`. The latter also has preferences for outputs that were made verbose
or concise on purpose. These preferences stabilise the regression in `win_rate`. We have not seen either file.
Source of the format: glm_winrate.py of tatsu-lab/alpaca_eval at 1020da2.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from taskdiv_assets.benchmarks.alpaca.rows import read_bytes
from taskdiv_assets.benchmarks.alpaca.win_rate import Difficulty, FloatArray

WHAT = "instruction_difficulty of benchmark `alpaca_eval`"
COLUMN, INDEX, PREFERENCE, LENGTH = "instruction_difficulty", "index", "preference", "std_delta_len"
# Weight of a verdict on an output made long or short: AlpacaEval's regularize_to_baseline_lambda, divided by two such models.
STEADY_WEIGHT = 0.2 / 2
Steady = tuple[FloatArray, FloatArray, FloatArray]  # (g,) each: preference, tanh of the length difference, difficulty


class DifficultyFile(NamedTuple):
    """The content of a file of difficulties."""

    source: str
    of_instruction: FloatArray  # (instructions,)
    steady: Steady

    def of(self, places: Sequence[int], instructions_n: int) -> Difficulty:
        """Return the difficulties of the instructions at the positions `places` of the benchmark's source.

        Raises:
            ValueError: the file and the source have different numbers of instructions, so their positions do not correspond.
        """
        if instructions_n != len(self.of_instruction):
            raise ValueError(
                f"{WHAT}: {self.source!r} holds the difficulties of {len(self.of_instruction)} instructions, the benchmark's "
                f"`source` {instructions_n}; expected the same instructions in the same order, so remove `{COLUMN}` or "
                "use AlpacaEval's own instructions"
            )
        return Difficulty(self.of_instruction[np.asarray(places, np.int64)], *self.steady, STEADY_WEIGHT)


def difficulty_sha256(source: str) -> str:
    """Return the SHA-256 of the bytes of the file `source` as hex digits; raise ValueError if the file cannot be read."""
    return hashlib.sha256(read_bytes(source, WHAT)).hexdigest()


def read_difficulty(source: str) -> DifficultyFile:
    """Read `instruction_difficulty.csv` or `df_gamed.csv`.

    Raises:
        ValueError: the file cannot be read, is not CSV, lacks the column of difficulties, has an invalid cell, lacks an index, or
            has two difficulties for one index.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(source, WHAT).decode())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{WHAT}: {source!r} is not a CSV file ({error}); expected AlpacaEval's {COLUMN}.csv"
        ) from None
    if not rows or COLUMN not in rows[0]:
        there = ", ".join(name or "(no name)" for name in rows[0]) if rows else "no rows"
        raise ValueError(f"{WHAT}: {source!r} has no column {COLUMN}, but {there}; expected AlpacaEval's {COLUMN}.csv")
    index = INDEX if INDEX in rows[0] else next(iter(rows[0]))
    found: dict[int, float] = {}
    for line, row in enumerate(rows, start=2):
        place, value = _number(row, index, source, line), _number(row, COLUMN, source, line)
        if found.setdefault(int(place), value) != value or place != int(place):
            raise ValueError(
                f"{WHAT}: {source!r}, line {line}: index {row[index]!r} has two difficulties or is not whole"
            )
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"{WHAT}: {source!r} has {len(found)} indexes that are not 0 to {len(found) - 1}")
    return DifficultyFile(source, np.array([found[place] for place in range(len(found))]), _steady(rows, source))


def _steady(rows: Sequence[dict[str, str]], source: str) -> Steady:
    """Return the verdicts that stabilise the fit, if any. Length differences are negated, to be model minus reference."""
    if not {PREFERENCE, LENGTH} <= set(rows[0]):
        return np.empty(0), np.empty(0), np.empty(0)
    judged = [(line, row) for line, row in enumerate(rows, start=2) if row[PREFERENCE] not in ("", "nan")]
    columns = [[_number(row, name, source, line) for line, row in judged] for name in (PREFERENCE, LENGTH, COLUMN)]
    preference, length, difficulty = (np.array(column) for column in columns)
    if len(preference) and not (0 <= preference.min() <= preference.max() <= 1):
        raise ValueError(f"{WHAT}: {source!r} has preferences outside 0..1; expected AlpacaEval's df_gamed.csv")
    return preference, np.tanh(-length), difficulty


def _number(row: dict[str, str], column: str, source: str, line: int) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{WHAT}: {source!r}, line {line}: {column} is {row[column]!r}; expected a number")
    return value
