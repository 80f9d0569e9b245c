"""Experiment files: every mistake at once, with its place."""

import json
import os
import re
from pathlib import Path

import pytest

from taskdiv_assets.experiment import Experiment, mistakes, parse_budget
from taskdiv_assets.experiment import experiment_file as experiments
from taskdiv_assets.experiment.annotation_settings import Annotation
from taskdiv_assets.experiment.experiment_file import ExperimentError
from tests.home import EXPERIMENTS, MINIATURE


@pytest.mark.parametrize("name", experiments.built_in_names())
def test_a_built_in_experiment_is_valid_and_named_after_its_file(name: str) -> None:
    assert experiments.load(name).name == name


def test_the_experiments_of_the_issue_are_there() -> None:
    assert {"demo", "demo_quick", "dolly", "dolly_small", "flan"} <= set(experiments.built_in_names())
    assert 3000 in experiments.load("dolly").budgets
    flan = experiments.load("flan")
    assert {30_000, (flan.pool.sample or 0) // 2} <= set(flan.budgets)
    assert flan.pool.columns is not None and flan.pool.columns.task == "task_name"


def test_every_mistake_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = MINIATURE.read_text()
    for old, new in [
        ("[random,", "[randm,"),
        ("rank: 4", "rank: -4"),
        ("confidence:", "confidenze:"),
        ("[12, 24]", "[12, 1.5]"),
        ("name: miniature", "name: Mini Ature"),
    ]:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ExperimentError) as caught:
        experiments.load(str(path))
    lines = text.splitlines()
    for key, said in [
        ("strategies:", "unknown strategy randm"),
        ("tuning:", "tuning.rank"),
        ("confidenze:", "unknown key"),
        ("budgets:", "budgets.1"),
        ("name:", "name:"),
        ("primary:", "'random' is not among the `strategies`"),
    ]:
        number = next(i for i, line in enumerate(lines, start=1) if line.startswith(key))
        assert any(f":{number}:" in line and said in line for line in str(caught.value).splitlines()), (key, said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a mapping"),
        ("- a\n- b", "expected a mapping"),
        ("name: [", "not valid YAML"),
        ("name: x", "budgets: is missing; add `budgets: [200]`"),
    ],
)
def test_a_file_that_is_no_experiment_says_so(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ExperimentError, match="x.yaml"):
        experiments.load(str(path))
    with pytest.raises(ExperimentError) as caught:
        experiments.load(str(path))
    assert said.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("budgts: [2]", "budgts: unknown key; did you mean `budgets`?"),
        ("confidence_sample: {tolrance: 0.1}", "unknown key; did you mean `tolerance`?"),
        ("task_labels: {form: column}", "unknown key; did you mean `from`?"),
        ("facility_location: {zzz: 1}", "unknown key; expected some of neighbours, similarities"),
        ("benchmarks: [{name: lab, splitt: test}]", "benchmarks.0.lab.splitt: unknown key; did you mean `split`?"),
    ],
)
def test_an_unknown_key_comes_with_the_one_that_was_meant_or_all(key: str, said: str) -> None:
    text = MINIATURE.read_text()
    name = key.partition(":")[0]
    kept = "\n".join(line for line in text.splitlines() if not line.startswith(f"{name}:"))
    with pytest.raises(ExperimentError) as caught:
        experiments.parse(f"{kept}\n{key}\n", "x.yaml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("benchmarks", "said"),
    [
        ("{name: alpaca_eval, judge: {model: '', calls: 3}}", "judge.model: expected text that is not blank, found ''"),
        ("{name: alpaca_eval, judge: {annotator: ' '}}", "judge.annotator: expected text that is not blank, found ' '"),
        (
            "{name: alpaca_eval, judge: {annotator: panel, calls: 3, weighted: true}}",
            "imported verdicts cost no calls: remove `calls`, `weighted`",
        ),
        ("{name: alpaca_eval, judge: {model: j, annotator: panel, calls: 3}}", "expected either `model`"),
        ("{name: alpaca_eval, judge: {model: j}}", "`calls` is missing"),
        ("{name: alpaca_eval}", "nothing would be scored, since `alpaca_eval` has no `judge`"),
        ("{name: mmlu, limit: 3, sample: 200}", "`limit` and `sample` exclude each other"),
        ("{name: mmlu}, {name: mmlu}", "benchmark 'mmlu' occurs twice"),
        ("{name: held_out}", "expected either `per_task: 20`"),
        ("{name: held_out, share: 0.6}", "benchmarks.0.share: expected at most 0.5"),
        ("mmlu", "benchmarks.0: expected a section such as {key: value}, found 'mmlu'"),
    ],
)
def test_a_benchmark_that_cannot_be_asked_is_refused(benchmarks: str, said: str) -> None:
    kept = "\n".join(line for line in MINIATURE.read_text().splitlines() if not line.startswith("benchmarks:"))
    with pytest.raises(ExperimentError) as caught:
        experiments.parse(f"{kept}\nbenchmarks: [{benchmarks}]\n", "x.yaml")
    assert said in str(caught.value)


def test_a_primary_comparison_has_a_metric_of_its_benchmark() -> None:
    lines = [line for line in MINIATURE.read_text().splitlines() if not line.startswith(("benchmarks:", "primary:"))]
    judge = "judge: {model: j, calls: 3}"
    for section, name, metric in [
        (f"{{name: alpaca_eval, {judge}}}", "alpaca_eval", "length_controlled_win_rate"),
        ("{name: bbh, prompting: zero_shot}", "bbh", "'exact_match,strict-match'"),
        ("{name: arc_easy, metrics: [acc_norm]}", "arc_easy", "acc_norm"),
    ]:
        text = "\n".join([*lines, f"benchmarks: [{section}]", "primary: {strategy: facility_location, BENCHMARK}"])
        good = text.replace("BENCHMARK", f"benchmark: {name}, metric: {metric}")
        assert experiments.parse(good, "x.yaml").primary.benchmark == name
        with pytest.raises(ExperimentError, match=r"primary\.metric: expected .*, found 'acc'"):
            experiments.parse(text.replace("BENCHMARK", f"benchmark: {name}, metric: acc"), "x.yaml")


@pytest.mark.parametrize("currency", ["EUR", "€", "US$", "kr.", "Kč", "zł", "रु.", "R$"])
def test_a_currency_is_shown_behind_a_price_with_all_its_digits(currency: str) -> None:
    annotation = Annotation(price=0.125, currency=currency)
    assert (annotation.unit_price, annotation.cost(64)) == (f"0.125 {currency}", f"8.00 {currency}")


@pytest.mark.parametrize(("price", "shown"), [(2, "2.00"), (0.5, "0.50"), (1e-7, "0.0000001"), (1234.5, "1,234.50")])
def test_a_price_has_two_digits_at_least(price: float, shown: str) -> None:
    assert Annotation(price=price).unit_price == shown


@pytest.mark.parametrize(
    "currency", ["", " ", ".", "E1", "EUR\n", "a\u200bb", "[red]", "<b>", "far too long", "\u0661"]
)
def test_what_is_no_currency_is_refused(currency: str) -> None:
    with pytest.raises(ValueError, match="is not a currency; expected at most 8 letters"):
        Annotation(currency=currency)
    with pytest.raises(ValueError, match="less than or equal to 1000000"):
        Annotation(price=1_000_001)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ExperimentError, match="demo_quick"):
        experiments.load("demoo")
    with pytest.raises(ExperimentError, match="check the path"):
        experiments.load("nowhere.yaml")


def test_a_yaml_tag_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"name: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(ExperimentError):
        experiments.load(str(path))
    assert not (tmp_path / "made").exists()


def test_relative_paths_are_relative_to_the_file_also_after_it_was_copied() -> None:
    source = EXPERIMENTS / "dolly_stories.yaml"
    here = experiments.load(str(source))
    copied = experiments.parse(f"{experiments.ORIGIN}{source}\n{source.read_text()}", "/elsewhere/experiment.yaml")
    assert here.pool.path == copied.pool.path
    assert str(here.pool.path).startswith(str(EXPERIMENTS))


@pytest.mark.parametrize("key", ["0", "-5", "1.5", "many", "0060", " 60", "60 ", "", "1e3", "+7", "٣"])
def test_a_budget_that_is_no_plain_positive_number_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="positive whole number"):
        parse_budget(key)


def test_a_campaign_has_one_selection_and_a_study_one_a_seed(tmp_path: Path) -> None:
    study = experiments.load(str(MINIATURE))
    assert study.selection_seeds == (0, 1)
    path = tmp_path / "c.yaml"
    path.write_text(MINIATURE.read_text().replace("purpose: study", "purpose: campaign"))
    campaign = experiments.load(str(path))
    assert campaign.selection_seeds == (0,)
    assert [campaign.selection_seed_of(seed) for seed in campaign.seeds] == [0, 0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("metric: exact_match", "metric: bogus", "primary.metric: expected exact_match, found 'bogus'"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nbudgets: [5]", "budgets: occurs twice"),
        ("[{name: lab}]", "[{name: lab}, {name: lab, split: validation}]", "benchmark 'lab' occurs twice"),
        ("tasks: [copy,", "tasks: [copyy,", "unknown lab task 'copyy'"),
        ("name: miniature", "name: dagster", "the folder of Dagster's records"),
        ("name: miniature", "name: 2020-13-45", "name: expected lower-case letters, digits and _"),
    ],
)
def test_mistakes_that_would_show_late_are_found_at_once(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = MINIATURE.read_text()
    assert old in text
    path = tmp_path / "x.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ExperimentError) as caught:
        experiments.load(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("name: Mini Ature", "name: expected lower-case letters, digits and _, found 'Mini Ature'"),
        ("name: 12", "name: expected text (in quotes if it looks like a number), found 12"),
        ("budgets: 12", "budgets: expected a list such as [a, b], found 12"),
        ("budgets: []", "budgets: expected at least 1 entry, found []"),
        ("budgets: [1.5]", "budgets.0: expected a whole number, found 1.5"),
        ("budgets: [true]", "budgets.0: expected a whole number, found true"),
        ("seeds: [-1]", "seeds.0: expected at least 0, found -1"),
        ("purpose: stdy", "purpose: expected 'study' or 'campaign', found 'stdy'"),
        ("owners: [me]", "owners.0: expected an e-mail address, or a team as `team:name`, found 'me'"),
        ("chat_template: perhaps", "chat_template: expected true or false, found 'perhaps'"),
        ("confidence_sample: x", "confidence_sample: expected a whole number or a section such as {key: value}"),
        ("tuning: {learning_rate: {choose: [1]}, epochs: 1}", "learning_rate.choose: expected at least 2 entries"),
        ("tuning: {learning_rate: 1}", "tuning.epochs: is missing; add `epochs: 3`"),
        ("annotation: {price: .nan}", "annotation.price: expected a finite number"),
        (
            'annotation: {instructions: "a\\0b"}',
            "annotation.instructions: expected text without the character U+0000, found ",
        ),
        ("pool: {reader: table}", "reader `table` needs either `path` or `hub`"),
    ],
)
def test_a_mistake_is_said_in_words(line: str, said: str) -> None:
    key = line.partition(":")[0]
    kept = "\n".join(text for text in MINIATURE.read_text().splitlines() if not text.startswith(f"{key}:"))
    with pytest.raises(ExperimentError) as caught:
        experiments.parse(f"{kept}\n{line}\n", "x.yaml")
    assert said in str(caught.value)
    assert not re.search(r"input should|should match|after validation|field required", str(caught.value), re.IGNORECASE)


def test_every_pattern_of_the_settings_has_words_and_every_missing_key_an_example() -> None:
    definitions = Experiment.model_json_schema()
    text = json.dumps(definitions)
    patterns = {json.loads(f'"{found}"') for found in re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', text)}
    assert patterns and patterns <= set(mistakes.PATTERN_WORDS)
    sections = [definitions, *definitions["$defs"].values()]
    required = {key for section in sections for key in section.get("required", ())}
    assert required <= set(mistakes.EXAMPLES)


def test_mistakes_come_in_the_order_of_the_file() -> None:
    text = MINIATURE.read_text().replace("rank: 4", "rank: -4").replace("[12, 24]", "[12, 1.5]")
    with pytest.raises(ExperimentError) as caught:
        experiments.parse(f"{text}\nbudgts: [2]\n", "x.yaml")
    lines = [int(line.split(":")[1]) for line in str(caught.value).splitlines()[1:]]
    assert len(lines) == 3 and lines == sorted(lines)


@pytest.mark.parametrize(
    "number",
    ["0x10", "010", "1:30", "1_000", "0o17", "'10'", "1e1", ".inf", ".nan", "2024-01-01", "yes", "!!int '0x10'"],
)
@pytest.mark.parametrize(
    "key", ["budgets: [VALUE]", "seeds: [VALUE]", "ranking_depth: VALUE", "annotation: {price: VALUE}"]
)
def test_a_number_is_plain_digits(key: str, number: str) -> None:
    if (key, number) == ("annotation: {price: VALUE}", "1e1"):
        return  # a price may have an exponent
    name = key.partition(":")[0]
    kept = "\n".join(line for line in MINIATURE.read_text().splitlines() if not line.startswith(f"{name}:"))
    with pytest.raises(ExperimentError, match=rf"x\.yaml:{kept.count(chr(10)) + 2}: ") as caught:
        experiments.parse(f"{kept}\n{key.replace('VALUE', number)}\n", "x.yaml")
    if number == "010":
        assert "found '010', which is text: a number is written in plain decimal digits" in str(caught.value)


@pytest.mark.parametrize("switch", ["yes", "on", "1", "'true'", "y"])
@pytest.mark.parametrize("key", ["chat_template", "keep_annotated"])
def test_a_switch_is_true_or_false(key: str, switch: str) -> None:
    with pytest.raises(ExperimentError, match=rf"{key}: expected true or false, found '?{switch.strip(chr(39))}"):
        experiments.parse(f"{MINIATURE.read_text()}\n{key}: {switch}\n", "x.yaml")


def test_a_hundred_thousand_budgets_are_refused_at_once() -> None:
    text = MINIATURE.read_text().replace("budgets: [12, 24]", f"budgets: [{', '.join(map(str, range(1, 100_000)))}]")
    with pytest.raises(ExperimentError, match="more than 10,000 entries"):
        experiments.parse(text, "x.yaml")
    fewer = MINIATURE.read_text().replace("budgets: [12, 24]", f"budgets: [{', '.join(map(str, range(1, 1_002)))}]")
    with pytest.raises(ExperimentError, match="budgets: expected at most 1000 entries"):
        experiments.parse(fewer, "x.yaml")


def test_many_mistakes_are_counted_and_the_first_listed() -> None:
    text = MINIATURE.read_text().replace("budgets: [12, 24]", f"budgets: [{', '.join(['a'] * 1000)}]")
    with pytest.raises(ExperimentError, match="has 1,000 mistake") as caught:
        experiments.parse(text, "x.yaml")
    assert str(caught.value).splitlines()[-1] == "  and 950 more"


ODD_VALUES = ("[[1]]", "{}", "[{}]", "[{name: [a]}]", "null", "3")
SECTIONS = (
    "pool",
    "task_labels",
    "base_model",
    "confidence",
    "confidence_sample",
    "strategies",
    "own_orders",
    "budgets",
    "seeds",
)
SECTIONS += ("tuning", "benchmarks", "primary", "annotation", "owners", "chat_template")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_of_another_kind_is_a_list_of_mistakes(section: str) -> None:
    kept = "\n".join(line for line in MINIATURE.read_text().splitlines() if not line.startswith(f"{section}:"))
    for value in ODD_VALUES:
        try:
            experiments.parse(f"{kept}\n{section}: {value}\n", "x.yaml")
        except ExperimentError as error:
            assert "x.yaml" in str(error)


@pytest.mark.parametrize("tasks", ["[[copy]]", "[{}]", "{}", "[[[copy]]]", "[null]", "copy", "{copy: 1}"])
def test_tasks_that_are_no_names_are_a_mistake_with_its_line(tasks: str) -> None:
    text = re.sub(r"tasks: \[[^\]]*\]", f"tasks: {tasks}", MINIATURE.read_text(), count=1)
    with pytest.raises(ExperimentError, match=r"x\.yaml:\d+: pool\.tasks"):
        experiments.parse(text, "x.yaml")


def test_a_line_of_a_merged_section_is_that_of_the_value_that_counts() -> None:
    text = MINIATURE.read_text().replace("tuning: {", "tuning: {<<: {rank: 2}, ", 1)
    assert experiments.parse(text, "x.yaml") == experiments.parse(MINIATURE.read_text(), "x.yaml")


@pytest.mark.parametrize("kind", ["pipe", "folder", "large"])
def test_what_is_no_experiment_file_is_refused_before_it_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(10**10)
    with pytest.raises(ExperimentError, match="x.yaml (is a folder, a pipe|has 10,000,000,000 bytes)"):
        experiments.load(str(path))


@pytest.mark.parametrize("target", ["x.yaml", "nowhere.yaml"])
def test_a_link_to_nothing_or_in_a_circle_is_not_offered_as_what_was_meant(tmp_path: Path, target: str) -> None:
    (tmp_path / "x.yaml").symlink_to(tmp_path / target)
    with pytest.raises(ExperimentError, match="a link of this name is (broken|circular)") as caught:
        experiments.load(str(tmp_path / "x.yaml"))
    assert "did you mean" not in str(caught.value)
