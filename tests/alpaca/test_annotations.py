"""Annotations of the package alpaca-eval: three published files, and made-up ones with texts."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from taskdiv_assets.benchmarks.alpaca.annotation_file import read_annotations, verdicts_from_annotations
from taskdiv_assets.benchmarks.alpaca.outputs import read_model_outputs
from taskdiv_assets.benchmarks.alpaca.prompts import Pair
from taskdiv_assets.benchmarks.alpaca.verdict_parts import key_of
from tests.alpaca.shared import MODELS, annotation_file, annotation_rows, outputs_bytes, written


def row(**changes: Any) -> dict[str, Any]:
    """Return an annotation as alpaca-eval writes it, with some fields changed."""
    base = {
        "instruction": "Q",
        "output_1": "reference",
        "output_2": "model",
        "generator_1": "ref",
        "generator_2": "mod",
    }
    return {**base, "annotator": "judge", "preference": 2.0, "raw_completion": "M", **changes}


@pytest.mark.parametrize("model", MODELS)
def test_published_files_are_read(shared_data: Path, model: str) -> None:
    found = read_annotations(annotation_file(shared_data, model))
    assert len(found) == 805
    assert {(a.reference_generator, a.model_generator) for a in found} == {("text_davinci_003", model)}
    counts = Counter(annotation.preference for annotation in found)
    assert set(counts) <= {0.0, 0.5, 1.0, None}
    assert counts[None] == (1 if model == "text_davinci_001" else 0)


@pytest.mark.parametrize("model", ["alpaca-7b", "gpt4"])
def test_output_2_is_the_model_s(shared_data: Path, model: str) -> None:
    """The lengths that the annotations state are those of the model's published outputs, all 805."""
    chars = {output.instruction: len(output.output) for output in read_model_outputs(outputs_bytes(shared_data, model))}
    assert all(a["output_2_chars"] == chars[a["instruction"]] for a in annotation_rows(shared_data, model))


def test_a_file_without_texts_says_so_when_verdicts_are_wanted(shared_data: Path) -> None:
    with pytest.raises(ValueError, match="no texts in output_1 and output_2"):
        verdicts_from_annotations(read_annotations(annotation_file(shared_data, "gpt4")))


@pytest.mark.parametrize(
    ("preference", "kind", "expected"),
    [(1, "judged", 0.0), (2, "judged", 1.0), (0, "judged", 0.5), (1.5, "judged", 0.5), (1.25, "judged", 0.25),
     (None, "unreadable", None), (-1, "unreadable", None)],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".json", ".jsonl.gz", ".parquet"])
def test_every_preference(tmp_path: Path, preference: Any, kind: str, expected: float | None, ending: str) -> None:
    found = read_annotations(written(tmp_path / f"a{ending}", [row(preference=preference)]))
    [verdict] = verdicts_from_annotations(found, "ref")["judge"]
    assert (verdict.kind, verdict.preference, verdict.answer, verdict.calls_n) == (kind, expected, "M", 0)
    assert verdict.key == key_of(Pair("Q", "reference", "model"))


def test_annotators_are_told_apart(tmp_path: Path) -> None:
    rows = [row(), row(annotator="other", preference=1), row(instruction="Q2")]
    found = verdicts_from_annotations(read_annotations(written(tmp_path / "a.json", rows)))
    assert {name: [v.preference for v in verdicts] for name, verdicts in found.items()} == {
        "judge": [1.0, 1.0],
        "other": [0.0],
    }


def test_an_annotation_as_the_package_wrote_it(tmp_path: Path) -> None:
    """A row of annotations.json from a run of alpaca-eval 0.6.6 with weighted_alpaca_eval_gpt4_turbo, shortened."""
    choice = {"finish_reason": "stop", "logprobs": {"content": []}, "message": {"content": "M"}, "text": "M"}
    theirs = row(preference=1.908877039, preference_raw_completion=choice, preference_version="alpaca_eval==0.6.6")
    del theirs["raw_completion"]
    same = {**row(output_2="reference", preference=1.5), "preference_raw_completion": None}
    found = verdicts_from_annotations(read_annotations(written(tmp_path / "a.json", [theirs, same])))["judge"]
    assert [(verdict.preference, verdict.answer) for verdict in found] == [(pytest.approx(0.908877039), "M"), (0.5, "")]


@pytest.mark.parametrize("preference", [1.5, 0])
def test_the_reference_s_own_file_is_read(tmp_path: Path, preference: float) -> None:
    """alpaca_eval writes the reference's annotations with its name twice and its text twice, each pair a tie."""
    own = [
        row(instruction=text, generator_2="ref", output_2="reference", preference=preference) for text in ("Q", "Q2")
    ]
    found = verdicts_from_annotations(read_annotations(written(tmp_path / "a.json", own)), "ref")["judge"]
    assert [verdict.preference for verdict in found] == [0.5, 0.5]
    both = read_annotations(written(tmp_path / "b.json", [*own, row()]))  # beside a model's
    assert len(verdicts_from_annotations(both, "ref")["judge"]) == 3
    without_texts = [{**one, "output_1": None, "output_2": None} for one in own]
    assert len(read_annotations(written(tmp_path / "c.json", without_texts))) == 2


def test_the_same_verdict_twice_is_one_and_two_verdicts_are_none(tmp_path: Path) -> None:
    found = read_annotations(written(tmp_path / "a.json", [row(), row()]))
    assert len(verdicts_from_annotations(found)["judge"]) == 1
    found = read_annotations(written(tmp_path / "a.json", [row(), row(preference=1)]))
    with pytest.raises(ValueError, match="two verdicts, 1.0 and 0.0"):
        verdicts_from_annotations(found)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(preference=3)], "row 0: preference is 3"),
        ([row(preference=True)], "preference is True"),
        ([row(preference="2")], "preference is '2'"),
        ([row(annotator=None)], "annotator is None"),
        ([{"instruction": "Q", "preference": 1}], "no column annotator, generator_1, generator_2"),
        ([row(), row(generator_1="mod", generator_2="ref")], "does not say which output is the reference's"),
        ([row(generator_1="a"), row(generator_1="b")], "does not say which"),
        ([row(generator_2="ref")], "does not say which"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_annotations(written(tmp_path / "a.json", rows))


def test_another_reference_is_refused(tmp_path: Path) -> None:
    found = read_annotations(written(tmp_path / "a.json", [row()]))
    with pytest.raises(ValueError, match="the benchmark with 'text_davinci_003'"):
        verdicts_from_annotations(found, "text_davinci_003")
