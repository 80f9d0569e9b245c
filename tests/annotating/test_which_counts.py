"""Which answer counts when annotators differ: the newest, an adjudicator's, or all of them for training."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from taskdiv_assets.annotating.answer_files import read_answers
from taskdiv_assets.annotating.importing import import_answers
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.adapter import adapter_parameters, examples_of
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.experiment.annotation_settings import Adjudicator, Annotation
from taskdiv_assets.graph.adapter_plan import pairs_digest
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage.store import Store
from tests.graph import make_unit
from tests.home import MINIATURE, Home

pytestmark = pytest.mark.xdist_group("annotating")


def with_rule(experiment: Experiment, rule: object) -> Experiment:
    annotation = Annotation.model_validate({**experiment.annotation.model_dump(), "when_answers_differ": rule})
    return experiment.model_copy(update={"annotation": annotation})


def bring(experiment: Experiment, store: Store, name: str, answers: dict[str, str]) -> None:
    path = Path(f"{name}.csv")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt_id", "response"), *answers.items()])
    import_answers(REGISTRY.look(experiment, store), read_answers(path), name)


def identity(lineage: Lineage) -> str:
    return lineage.expect(Unit("annotations")).identity


def test_each_rule_and_that_nothing_changes_while_answers_agree(
    experiment: Experiment, store: Store, ids: list[str]
) -> None:
    def look(rule: object) -> Lineage:
        return REGISTRY.look(with_rule(experiment, rule), store)

    rules = ("newest", "both", {"adjudicator": "Ann"})
    bring(experiment, store, "ann", {ids[0]: "same", ids[1]: "yes"})
    bring(experiment, store, "ben", {ids[0]: "same"})
    assert len({identity(look(rule)) for rule in rules}) == 1
    assert all(look(rule)._training_hashes == look("newest").answer_hashes for rule in rules)
    bring(experiment, store, "ben", {ids[1]: "no", ids[2]: "alone"})
    newest, both, adjudicated = map(look, rules)
    assert (newest.answers[ids[1]], both.answers[ids[1]], adjudicated.answers[ids[1]]) == ("no", "no", "yes")
    assert adjudicated.answers[ids[2]] == "alone"  # without an answer of the adjudicator
    assert both.other_answers == {ids[1]: ("yes",)} and not newest.other_answers and not adjudicated.other_answers
    assert identity(newest) == identity(both) != identity(adjudicated)
    assert pairs_digest(both._training_hashes) != pairs_digest(newest._training_hashes)
    assert {i for i in ids if both._training_hashes[i] != newest.answer_hashes[i]} == {ids[1]}


def test_the_key_says_what_it_means() -> None:
    assert Annotation().which_counts == "the newest counts"
    assert Annotation(when_answers_differ="both").which_counts == "models train on all of them"
    named = Annotation(when_answers_differ=Adjudicator(adjudicator="eva"))
    assert named.which_counts == "the answer of eva counts, or else the newest"


@pytest.mark.full
def test_both_answers_are_two_examples_of_one_prompt(miniature: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in miniature.variables().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(miniature.folder)
    chosen = experiment_file.parse(*experiment_file.read_text(str(MINIATURE)))
    store, unit = Store("miniature"), Unit("adapter", "12|random")
    one = str(store.read_table("allocation", "12|random").table["prompt_id"].to_pylist()[0])
    for name, text in (("ann", "first"), ("ben", "second")):
        bring(chosen, store, name, {one: text})
    both = with_rule(chosen, "both")
    for needed in (Unit("annotations"), Unit("ranking", "random"), Unit("allocation", "12|random")):
        make_unit(both, store, needed)
    lineage = REGISTRY.look(both, store)
    work = Work(both, store, lineage, unit, lineage.expect(unit), str)
    texts = [(example.prompt_id, example.response) for example in examples_of(work, [one], lineage.other_answers)]
    assert texts == [(one, "second"), (one, "first")]
    make_unit(both, store, unit)
    table = store.read_table(*unit).table
    assert max(table["examples_n"].to_pylist()) == 13
    assert adapter_parameters(work)["examples_max_n"] == 13
