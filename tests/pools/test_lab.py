"""The lab's pool, its held-out items and its pretraining: what the design prescribes, and that the three do not overlap."""

import doctest
from collections import Counter, defaultdict

import pytest

from taskdiv_assets.experiment import lab_operations
from taskdiv_assets.experiment.lab_operations import TASKS, instruction_words
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools import lab
from taskdiv_assets.pools.lab import held_out_items, pool_items, pretraining_examples, task_sizes
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.selection import streams

# The examples of the design, one per operation and one more where an edge is worth seeing.
OPERATIONS = [
    ("copy", "abcd", "abcd"),
    ("reverse", "abcd", "dcba"),
    ("upper", "abcd", "ABCD"),
    ("first", "abcd", "a"),
    ("last", "abcd", "d"),
    ("next", "abcp", "bcda"),
    ("double", "abcd", "aabbccdd"),
    ("rotate", "abcd", "bcda"),
    ("swap", "abcd", "dbca"),
    ("mask", "abed", "*b*d"),
    ("vowels", "abed", "ae"),
    ("vowels", "bcdf", "-"),
    ("half", "abcd", "ab"),
    ("quote", "abcd", "(abcd)"),
    ("spell", "abcd", "a-b-c-d"),
    ("max", "4719", "9"),
    ("parity", "4719", "odd"),
    ("parity", "4710", "even"),
    ("nines", "4719", "5280"),
    ("units", "4719", "9"),
    ("round", "4719", "4000"),
    ("firstw", "abc def ghi", "abc"),
    ("lastw", "abc def ghi", "ghi"),
    ("compare", "48 63", "second"),
    ("compare", "63 48", "first"),
    ("compare", "48 48", "same"),
    ("flip", "abcd", "dcba"),
]


def parts(prompt: str) -> tuple[str, str]:
    """Split a prompt into its wording and its input."""
    wording, _, text = prompt.removesuffix(">").partition(": ")
    return wording, text


WORDINGS = {wording: (task.name, place) for task in TASKS.values() for place, wording in enumerate(task.wordings)}


@pytest.mark.parametrize(("task", "text", "answer"), OPERATIONS)
def test_operation_does_what_the_design_says(task, text, answer):
    assert TASKS[task].operation(text) == answer


def test_the_examples_cover_every_operation_but_the_random_one():
    assert set(TASKS) - {task for task, _, _ in OPERATIONS} == {"omen"}
    assert len(TASKS) == 24
    assert len(WORDINGS) == 72  # no wording twice


@pytest.mark.parametrize("module", [lab, lab_operations, streams])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


class TestPool:
    def test_has_the_sizes_of_the_design(self):
        items = pool_items(1)
        assert len(items) == 4437
        sizes = sorted(Counter(item.task for item in items).values())
        assert sizes == sorted(round(600 * (24 / 600) ** (i / 23)) for i in range(24))

    def test_repeats_no_prompt_and_uses_wordings_1_and_2_equally(self):
        items = pool_items(2)
        assert len({item.prompt for item in items}) == len(items)
        places = Counter(WORDINGS[parts(item.prompt)[0]] for item in items)
        assert {place for _, place in places} == {1, 2}
        for task in TASKS:
            assert 0 <= places[task, 1] - places[task, 2] <= 1

    def test_depends_on_its_seed_alone(self):
        assert pool_items(5) == pool_items(5)
        assert pool_items(5) != pool_items(6)
        assert task_sizes(5) != task_sizes(6)

    def test_miniature(self):
        tasks = ["max", "copy", "compare", "omen"]
        items = pool_items(1, tasks, largest_n=40, smallest_n=12)
        assert sorted(Counter(item.task for item in items).values()) == [12, 18, 27, 40]
        assert {item.task for item in items} == set(tasks)
        assert pool_items(1, tasks[::-1], 40, 12) == items  # the order of the names says nothing

    def test_the_pool_read_has_the_items_in_order(self):
        settings = Pool(reader="lab", seed=3, tasks=["copy", "max"], largest_n=30, smallest_n=10)
        table = read_pool(settings).table.sort_by("position")
        rows = [(row["prompt"], row["response"], row["source_task"]) for row in table.to_pylist()]
        assert rows == [(i.prompt, i.response, i.task) for i in pool_items(3, ["copy", "max"], 30, 10)]

    def test_omen_has_one_answer_per_input_and_all_letters(self):
        answers = {item.response for item in pool_items(1, ["omen"], 600, 600)}
        assert len(answers) > 200  # of 256 pairs of letters
        assert all(len(answer) == 2 and set(answer) <= set(lab_operations.LETTERS) for answer in answers)


class TestHeldOut:
    @pytest.mark.parametrize(("split", "count_n"), [("test", 40), ("validation", 20)])
    def test_has_equally_many_items_of_each_task(self, split, count_n):
        items = held_out_items(split, 1)
        assert Counter(item.task for item in items) == dict.fromkeys(TASKS, count_n)
        assert len({item.item_id for item in items}) == len(items)
        assert len({item.prompt for item in items}) == len(items)
        assert {WORDINGS[parts(item.prompt)[0]][1] for item in items} == {1, 2}

    def test_inputs_are_in_no_pool_and_no_pretraining_of_any_seed(self):
        seen = set()
        for seed in (1, 2, 1001):
            seen |= {parts(item.prompt)[1] for item in pool_items(seed)}
            seen |= {parts(example.prompt)[1] for example in pretraining_examples(seed, 5000)}
        test = {parts(item.prompt)[1] for seed in (1, 2, 3) for item in held_out_items("test", seed)}
        validation = {parts(item.prompt)[1] for seed in (1, 2, 3) for item in held_out_items("validation", seed)}
        assert not test & seen
        assert not validation & seen
        assert not test & validation

    def test_a_miniature_asks_the_same_of_its_tasks(self):
        whole = [item for item in held_out_items("test", 1) if item.task in ("max", "flip")]
        assert held_out_items("test", 1, ["flip", "max"]) == whole

    def test_answers_are_those_of_the_operation(self):
        for item in held_out_items("validation", 4):
            assert item.response == TASKS[item.task].operation(parts(item.prompt)[1])


class TestPretraining:
    examples = pretraining_examples(1, 30_000)

    def rows(self):
        for prompt, response in self.examples:
            wording, text = parts(prompt)
            task, place = WORDINGS[wording]
            yield task, place, text, response

    def test_half_has_wording_0_with_the_operation_itself(self):
        canonical = [row for row in self.rows() if row[1] == 0]
        assert len(canonical) == pytest.approx(15_000, abs=400)  # 4.6 standard deviations
        for task, _, text, response in canonical:
            operation = "upper" if task == "flip" else task
            assert response == TASKS[operation].operation(text)

    def test_flip_is_upper_case_under_every_wording(self):
        flips = [row for row in self.rows() if row[0] == "flip"]
        assert {place for _, place, _, _ in flips} == {0, 1, 2}
        assert all(response == text.upper() for _, _, text, response in flips)

    def test_purity_falls_from_1_to_almost_nothing_and_exposure_4_times(self):
        shown, right = Counter(), defaultdict(list)
        for task, place, text, response in self.rows():
            shown[task] += 1
            if place and task not in lab.TRAPS:
                right[task].append(response == TASKS[task].operation(text))
        purity = {task: sum(hits) / len(hits) for task, hits in right.items()}
        assert max(purity.values()) > 0.9
        assert min(purity.values()) < 0.4  # a random operation is the right one now and then
        assert 3 < max(shown.values()) / min(shown.values()) < 5.5
        often = sorted(purity, key=lambda task: -shown[task])
        assert sum(purity[t] for t in often[:8]) > sum(purity[t] for t in often[-8:]) + 2

    def test_depends_on_its_seed_alone_and_on_no_global_state(self):
        assert pretraining_examples(7, 200) == pretraining_examples(7, 200)
        assert pretraining_examples(7, 200) != pretraining_examples(8, 200)

    def test_every_input_kind_fits_its_wordings_answer(self):
        for task, _, text, response in self.rows():
            if TASKS[task].kind == "numbers":
                assert response in ("first", "second", "same", *text.split())


class TestRefusals:
    def test_unknown_task(self):
        with pytest.raises(ValueError, match="unknown lab task revers; choose from copy, reverse"):
            pool_items(1, ["copy", "revers"])

    @pytest.mark.parametrize("tasks", [[], ["copy", "copy"]])
    def test_no_task_or_one_twice(self, tasks):
        with pytest.raises(ValueError, match="at least one, each once"):
            pool_items(1, tasks)

    def test_more_inputs_than_there_are(self):
        with pytest.raises(
            ValueError, match=r"the lab has \d+ different inputs of kind `numbers` for pool, 9000 are needed"
        ):
            pool_items(1, ["compare"], 9000, 9000)

    def test_unknown_split(self):
        with pytest.raises(ValueError, match="unknown split 'dev'"):
            held_out_items("dev", 1)

    def test_sizes_the_wrong_way_round(self):
        with pytest.raises(ValueError, match="smallest_n <= largest_n, found 50 and 40"):
            pool_items(1, None, 40, 50)


def test_instruction_words_are_one_token_each():
    assert "spell" in instruction_words() and " backwards" in instruction_words()
    assert len(instruction_words()) == 119
