"""Reading a judge's answers, and verdicts as tables."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.benchmarks.alpaca.prompts import Pair, is_model_first
from taskdiv_assets.benchmarks.alpaca.verdict_parts import (
    ANSWER_CHARS,
    Verdict,
    from_table,
    is_final,
    is_tie,
    key_of,
    probability_of_first,
    read_letter,
    tie,
    to_table,
    verdict_of,
)
from taskdiv_assets.chat.endpoint import Reply

PAIR = Pair("Q", "reference", "model")


@pytest.mark.parametrize(
    "text",
    ["{}", " {}\n", '"{}"', "'{}'.", "({})", "**{}**", "`{}`", "Output ({})", "output {}", "Model {}", "Answer: {}",
     "The better output is {}.", "The best answer:\n{}", "{} is better.", "{}\n\nIt is right.", "[{}]", "Output {}, option {}"],
)  # fmt: skip
def test_a_letter_and_its_label(text: str) -> None:
    assert read_letter(text.replace("{}", "m")) == (1.0, "")
    assert read_letter(text.replace("{}", "M")) == (0.0, "")


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "m or M", "M\nm is wrong", "Mm", "mm", "A", "1", "M is worse", "not M", "Neither", "I'm unsure", "M1",
     "Both are good", "I prefer the first", "The worst is m"],
)  # fmt: skip
def test_anything_else_is_not_guessed(text: str) -> None:
    letter, problem = read_letter(text)
    assert letter is None
    assert problem
    assert verdict_of(PAIR, Reply(text), weighted=False, calls_n=1).kind == "unreadable"


@pytest.mark.parametrize("text", ["I'm sorry, I can’t judge this.", "I cannot help with that", "I won't answer"])
def test_a_refusal(text: str) -> None:
    assert verdict_of(PAIR, Reply(text), weighted=False, calls_n=1).kind == "refused"


def test_the_letter_means_the_output_that_stood_there() -> None:
    pairs = [Pair(str(n), "r", "m") for n in range(20)]
    for letter, is_first in (("m", True), ("M", False)):
        for pair in pairs:
            verdict = verdict_of(pair, Reply(letter), weighted=False, calls_n=1)
            assert verdict.preference == float(is_model_first(pair) == is_first)


def test_probabilities_of_both_letters() -> None:
    assert probability_of_first([("m", math.log(0.3)), ("M", math.log(0.1))]) == pytest.approx(0.75)
    assert probability_of_first([(" m", math.log(0.2)), ("m", math.log(0.1)), ("M", math.log(0.1))]) == pytest.approx(
        0.75
    )
    assert probability_of_first([("M", -5.0), ("The", -0.1)]) == 0.0
    assert probability_of_first([("The", -0.1)]) is None
    assert probability_of_first([]) is None


def test_a_key_is_the_three_texts_and_nothing_less() -> None:
    variants = [
        PAIR,
        Pair("Q", "model", "reference"),
        Pair("Q ", "reference", "model"),
        Pair("Qr", "eference", "model"),
    ]
    keys = {key_of(pair) for pair in variants}
    assert len(keys) == 4
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)
    assert key_of(Pair("Q", "é", "")) == key_of(Pair("Q", "é", ""))


def test_equal_outputs_are_a_tie() -> None:
    pair = Pair("Q", "same", "same")
    assert is_tie(pair)
    assert not is_tie(Pair("Q", "same", "same "))
    assert tie(pair)[1:3] == ("judged", 0.5)
    assert tie(pair).calls_n == 0


def test_only_a_failure_is_asked_again() -> None:
    assert not is_final(Verdict(key_of(PAIR), "failed", None, "", "timed out", 5))
    for reply in (Reply("m"), Reply("x"), Reply("", "content_filter")):
        assert is_final(verdict_of(PAIR, reply, weighted=False, calls_n=1))


def test_an_answer_is_cut() -> None:
    verdict = verdict_of(PAIR, Reply("x" * 9000), weighted=False, calls_n=1)
    assert len(verdict.answer) == ANSWER_CHARS == 2000


printable = st.text(st.characters(codec="utf-8"), max_size=20)
verdict_lists = st.lists(
    st.builds(
        Verdict,
        key=st.text("0123456789abcdef", min_size=32, max_size=32),
        kind=st.sampled_from(["judged", "refused", "unreadable", "failed"]),
        preference=st.none() | st.floats(0, 1),
        answer=printable,
        detail=printable,
        calls_n=st.integers(0, 100),
    ),
    max_size=5,
)


@given(verdict_lists)
def test_a_table_holds_what_was_put_in(verdicts: list[Verdict]) -> None:
    table = to_table(verdicts)
    assert table.schema.names == ["key", "kind", "preference", "answer", "detail", "calls_n"]
    assert from_table(table) == verdicts


def test_another_table_is_refused() -> None:
    table = to_table([tie(PAIR)])
    with pytest.raises(ValueError, match="expected key string"):
        from_table(table.drop_columns(["detail"]))
    with pytest.raises(ValueError, match="expected key string"):
        from_table(table.set_column(5, "calls_n", pa.array([1.0])))
    with pytest.raises(ValueError, match="maybe"):
        from_table(table.set_column(1, "kind", pa.array(["maybe"])))
