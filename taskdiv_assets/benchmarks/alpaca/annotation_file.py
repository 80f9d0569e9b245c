"""Read verdicts that the package alpaca-eval made, from its files annotations.json with one object for each pair of outputs.

output_1 is the reference's output and output_2 the model's output. The column preference is 1 for output_1, 2 for output_2,
between 1 and 2 for a weighted judge, 0 or 1.5 for a tie, and null or -1 for no verdict.
Sources: 3 × 805 published annotations of tatsu-lab/alpaca_eval at cd543a1, and a run of alpaca-eval 0.6.6 on our outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from taskdiv_assets.benchmarks.alpaca.prompts import Pair
from taskdiv_assets.benchmarks.alpaca.rows import read_rows, require_columns
from taskdiv_assets.benchmarks.alpaca.verdict_parts import ANSWER_CHARS, Verdict, key_of

WHAT = "annotation file"
COLUMNS = ("instruction", "preference", "annotator", "generator_1", "generator_2")


class Annotation(NamedTuple):
    """The verdict of one annotator on one pair."""

    instruction: str
    reference_output: str | None  # None: the file has no texts
    model_output: str | None
    reference_generator: str
    model_generator: str
    annotator: str
    preference: float | None  # 0..1; 1: the model's output is preferred; None: no verdict
    answer: str  # the start of the judge's reply; empty if the file has none


def read_annotations(source: str) -> tuple[Annotation, ...]:
    """Read the annotations of a file in row order. The file's name ends in .json, .jsonl, .json.gz, .jsonl.gz or .parquet.

    Raises:
        ValueError: the file cannot be read, a row is invalid, or the file does not show which output is the reference's.
    """
    rows = read_rows(source, WHAT)
    found = tuple(_annotation(row, f"{WHAT} {source!r}, row {number}") for number, row in enumerate(rows))
    references = sorted({annotation.reference_generator for annotation in found})
    models = {annotation.model_generator for annotation in found}
    is_mixed = any(one.model_generator == one.reference_generator and not _is_itself(one) for one in found)
    if len(references) > 1 or is_mixed:
        raise ValueError(
            f"{WHAT} {source!r} does not say which output is the reference's: generator_1 is {', '.join(references)} and "
            f"generator_2 {', '.join(sorted(models))}; expected one generator_1, the reference, and under its own name as "
            "generator_2 only its own outputs"
        )
    return found


def verdicts_from_annotations(
    annotations: Sequence[Annotation],  # with texts, because the texts identify a pair; the model's name does not
    reference_generator: str | None = None,  # name in the benchmark's source; None: the name is not checked
) -> dict[str, list[Verdict]]:
    """Return verdicts by annotator, in the order of the annotations. A missing preference gives the kind `unreadable`.

    Raises:
        ValueError: there are no texts, the reference has another name, or an annotator has two different verdicts on a pair.
    """
    found: dict[str, dict[str, Verdict]] = {}
    for annotation in annotations:
        if reference_generator not in (None, annotation.reference_generator):
            raise ValueError(
                f"annotations compare {annotation.model_generator!r} with {annotation.reference_generator!r} "
                f"(generator_1), the benchmark with {reference_generator!r}; expected the same reference"
            )
        verdict = _verdict(annotation)
        earlier = found.setdefault(annotation.annotator, {}).setdefault(verdict.key, verdict)
        if earlier.preference != verdict.preference:
            raise ValueError(
                f"annotator {annotation.annotator!r} has two verdicts, {earlier.preference} and {verdict.preference}, "
                f"on the same outputs to {annotation.instruction[:60]!r}; remove one of them"
            )
    return {annotator: list(verdicts.values()) for annotator, verdicts in found.items()}


def _is_itself(annotation: Annotation) -> bool:
    """Return True if the row compares the reference with itself. For a row without texts, return True for a tie or no verdict."""
    if annotation.reference_output is None or annotation.model_output is None:
        return annotation.preference in (0.5, None)
    return annotation.reference_output == annotation.model_output


def _verdict(annotation: Annotation) -> Verdict:
    if annotation.reference_output is None or annotation.model_output is None:
        raise ValueError(
            f"annotations of {annotation.annotator!r} have no texts in output_1 and output_2, so that they belong to no "
            "output; import the file annotations.json as the package alpaca-eval wrote it"
        )
    key = key_of(Pair(annotation.instruction, annotation.reference_output, annotation.model_output))
    if annotation.preference is None:
        return Verdict(key, "unreadable", None, annotation.answer, "the annotations hold no verdict", 0)
    return Verdict(key, "judged", annotation.preference, annotation.answer, "", 0)


def _annotation(row: dict[str, Any], place: str) -> Annotation:
    require_columns(row, COLUMNS, place)
    for column in ("instruction", "annotator", "generator_1", "generator_2"):
        if not isinstance(row[column], str) or not row[column].strip():
            raise ValueError(f"{place}: {column} is {row[column]!r}; expected text that is not blank")
    reference, model = (text if isinstance(text, str) else None for text in (row.get("output_1"), row.get("output_2")))
    names = (row["generator_1"], row["generator_2"], row["annotator"])
    return Annotation(row["instruction"], reference, model, *names, _preference(row["preference"], place), _answer(row))


def _answer(row: dict[str, Any]) -> str:
    """Return the first ANSWER_CHARS characters of the judge's reply; empty if there is none.

    The reply is stored as text or, by alpaca-eval 0.6.6, in the entry `text` of an object from OpenAI's API.
    """
    raw = row.get("preference_raw_completion", row.get("raw_completion"))
    text = raw.get("text") if isinstance(raw, dict) else raw
    return text[:ANSWER_CHARS] if isinstance(text, str) else ""


def _preference(value: Any, place: str) -> float | None:
    if value is None or (isinstance(value, int | float) and (value == -1 or value != value)):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and (value == 0 or 1 <= value <= 2):
        return 0.5 if value == 0 else float(value) - 1
    raise ValueError(
        f"{place}: preference is {value!r}; expected a number in 1..2, 0 for a tie, or null for no verdict"
    )
