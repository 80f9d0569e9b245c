"""YAML files of users: which texts are numbers, and which files are rejected before they take time or memory."""

import time

import pytest
import yaml

from data_contracts import plain_yaml
from data_contracts.plain_yaml import YamlError


@pytest.mark.parametrize(
    "text",
    [
        "0x10",
        "010",
        "-010",
        "1:30",
        "1:30:00",
        "1_000",
        "0o17",
        "0b11",
        "00.5",
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "2024-01-01",
        "1,000",
        "=",
        "tRUE",
        "NULl",
        "1e",
        "1.2.3",
    ],
)
def test_what_only_yaml_1_1_takes_for_something_else_is_text(text: str) -> None:
    assert plain_yaml.read(f"[{text}]" if "," not in text else f"- {text}", "x.yaml").value == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-5", -5),
        ("+5", 5),
        ("0", 0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("2e-4", 2e-4),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'10'", "10"),
        ("!!str 10", "10"),
    ],
)
def test_values_of_the_core_schema(text: str, value: object) -> None:
    found = plain_yaml.read(f"a: {text}", "x.yaml").value["a"]
    assert (found, type(found)) == (value, type(value))


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "x.yaml:5: the file has more than 50,000 keys and values"),
        (
            "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 99))]),
            "x.yaml:31: sections are nested",
        ),
        ("a:\n  &b [1, *b]", "x.yaml:2: the alias .b is inside the section"),
        ("&b {c: *b}", "x.yaml:1: the alias .b is inside the section"),
        ("a: 1\nb: " + "[" * 5000 + "]" * 5000, "x.yaml:2: sections are nested more than 32 deep"),
        ("{a: " * 5000, "x.yaml:1: sections are nested more than 32 deep"),
        ("a: [" + "1, " * 10_000 + "1]", "x.yaml:1: this list has more than 10,000 entries"),
        ("a" * 1_000_001, r"x.yaml has 1,000,001 characters; expected at most 1,000,000"),
        ("a: 1\nb: " + "9" * 5000, "x.yaml:2: this number has 5,000 digits"),
        ("a: 1\nb: !!set {c, d}", "x.yaml:2: the tag !!set is not taken here"),
        ("!!omap [a: 1]", "the tag !!omap"),
        ("!!binary aGk=", "the tag !!binary"),
        ("!!timestamp 2024-01-01", "the tag !!timestamp"),
        ("!!int 0x10", "the tag !!int"),
        ("!mine x", "the tag !mine"),
        ("!!python/name:os.system ''", "the tag !!python/name:os.system"),
        ("{[a]: b}", "x.yaml:1: a list is used as a key"),
        ("? {a: b}\n: c", "x.yaml:1: a section is used as a key"),
        ("a: 1\nb: [", "x.yaml:2 is not valid YAML: .*, expected the node content"),
        ("a: 1\n\tb: 2", "x.yaml:2 is not valid YAML"),
        ("a: 1\nb: \x00", r"x.yaml:2 is not valid YAML: the character U\+0000 may not be in it"),
        ("a: 1\n---\nb: 2", "x.yaml:2 is not valid YAML: expected a single document"),
        ("a: *b", "x.yaml:1 is not valid YAML: found undefined alias"),
        ("{<<: 5}", "x.yaml:1 is not valid YAML"),
    ],
)
def test_what_is_beyond_the_bounds_is_one_sentence_with_its_line_and_takes_no_time(text: str, said: str) -> None:
    started = time.process_time()
    with pytest.raises(YamlError, match=said) as caught:
        plain_yaml.read(text, "x.yaml")
    assert "\n" not in str(caught.value)
    assert time.process_time() - started < 5  # 0.6 s at most on two busy cores; without bounds it does not end


def test_aliases_and_merged_sections_within_the_bounds_are_taken() -> None:
    found = plain_yaml.read("a: &x {b: 1, c: 1}\nd: {<<: *x, b: 2}\ne: [*x, *x]", "x.yaml")
    assert found.value == {"a": {"b": 1, "c": 1}, "d": {"b": 2, "c": 1}, "e": [{"b": 1, "c": 1}] * 2}
    assert found.repeated == ()


def test_a_key_that_stands_twice_is_named_with_its_place() -> None:
    assert plain_yaml.read("a: [{b: 1, b: 2}]\nc: 1\nc: 2", "x.yaml").repeated == (("a", 0, "b"), ("c",))


def test_keys_are_text() -> None:
    assert plain_yaml.read("{1: a, null: b, yes: c, 0.5: d}", "x.yaml").value == {
        "1": "a",
        "null": "b",
        "yes": "c",
        "0.5": "d",
    }


def test_functions_of_lm_eval_are_text_where_they_are_taken() -> None:
    assert plain_yaml.read("a: !function utils.f", "x.yaml", has_functions=True).value == {"a": "!function utils.f"}


@pytest.mark.parametrize(
    "text",
    [
        "010",
        "1e3",
        "2e-4",
        "1_000",
        "1:30",
        "yes",
        "off",
        "0x10",
        "0o17",
        "null",
        "~",
        "true",
        "2024-01-01",
        ".5",
        "5.",
        "<<",
        "",
        "a: b",
    ],
)
def test_text_that_is_written_is_text_for_both_versions_of_yaml(text: str) -> None:
    written = plain_yaml.written({"a": text, "b": [text, 1, 0.5, 1e-7, True, None]})
    wanted = {"a": text, "b": [text, 1, 0.5, 1e-7, True, None]}
    assert plain_yaml.read(written, "x.yaml").value == yaml.safe_load(written) == wanted


def test_a_list_of_lm_eval_may_be_long() -> None:
    text = "a: [" + "1, " * 10_000 + "1]"
    assert len(plain_yaml.read(text, "x.yaml", has_functions=True).value["a"]) == 10_001


@pytest.mark.parametrize(
    "text", ["829e4567", "1.5e3", "1e3", "0x10", "010", "1_000", "yes", "null", "2024-01-01", "a: b"]
)
def test_a_written_document_reads_as_the_same(text: str) -> None:
    value = {"pool": {"revision": text, text: [text, 1.5, 1e300, None, True]}}
    assert plain_yaml.read(plain_yaml.document(value), "x.yaml").value == value
