"""Held-out items whose answers are imported later: a campaign from its list of items to scores, with answers in two parts."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import data_contracts
from reports import analysis, asked, notes, results
from taskdiv_assets.annotating import ledger
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.next_steps import next_lines
from taskdiv_assets.commands.planning import plan
from taskdiv_assets.commands.running import missing_units
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.known_answers import known_answers
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.scoring_plan import SCORES
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage.store import Store
from tests.graph import make_unit
from tests.home import Home

WORDS_N, CELL = 40, "4|random"
EXPERIMENT = """
name: later
purpose: campaign
pool: {reader: table, path: FOLDER/later.csv, columns: {prompt: question, task: topic, id: ticket}}
base_model: {path: FOLDER/model}
strategies: [random]
budgets: [4]
seeds: [0]
tuning: {rank: 2, alpha: 4, learning_rate: 1.0e-3, epochs: 1}
benchmarks: [{name: held_out, per_task: 3, answers: later, generated: {max_new_tokens: 3, metrics: [chrf]}}]
annotation: {price: 0.5, currency: EUR}
"""
LISTS = (Unit("ranking", "random"), Unit("allocation", CELL), Unit("annotation_batch", CELL))


class Later:
    """The campaign. Its assets are called one by one in this process."""

    def __init__(self, home: Home) -> None:
        self.home, path = home, home.folder / "later.yaml"
        path.write_text(EXPERIMENT.replace("FOLDER", str(home.folder)))
        self.experiment, self.store = experiment_file.load(str(path)), Store("later")
        self.store.put(path.read_bytes(), "experiment.yaml")

    def make(self, *units: Unit | str) -> None:
        for unit in units:
            make_unit(self.experiment, self.store, Unit(unit) if isinstance(unit, str) else unit)

    def say(self, *arguments: str) -> str:
        said = self.home.say("annotations", *arguments)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def answer(self, rows: list[dict[str, str]]) -> str:
        """Import an answer to each of the exported `rows`, under the user's own ids."""
        with (self.home.folder / "answers.csv").open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["ticket", "response"])
            writer.writerows([row["ticket"], f"w{n} w{n + 1}"] for n, row in enumerate(rows, start=2))
        said = self.say("import", "later", "answers.csv")
        self.make("annotations", "held_out_items")
        return said

    @property
    def lineage(self) -> Lineage:
        return REGISTRY.look(self.experiment, self.store)

    @property
    def next(self) -> list[str]:
        return next_lines("later", "", plan(self.experiment, self.store).standing)

    @property
    def missing_on_the_page(self) -> list[tuple[str, str]]:
        found = results.load(self.store.url)
        return notes.missing(found, analysis.sections(found))

    def column(self, asset: str, name: str, key: str | None = None) -> list[str | None]:
        values: list[str | None] = self.store.read_table(asset, key).table[name].to_pylist()
        return values


@pytest.fixture
def later(tmp_path: Path) -> Iterator[Later]:
    import torch
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    home = Home(tmp_path)
    words = Tokenizer(WordLevel({f"w{index}": index for index in range(WORDS_N)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = LlamaConfig(vocab_size=WORDS_N, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=1,
                         pad_token_id=0)  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(home.folder / "model")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1")
    tokenizer.save_pretrained(home.folder / "model")
    rows = [f"T-{n},w{2 + n % 30} w{3 + n % 7} w{n % 11},{('refund', 'order')[n % 2]}" for n in range(40)]
    (home.folder / "later.csv").write_text("\n".join(["ticket,question,topic", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        patch.chdir(home.folder)
        # `import` makes tables by a Dagster run, which takes seconds; `Later.answer` makes them instead.
        patch.setattr("taskdiv_assets.commands.annotation_commands._materialise", lambda _: None)
        later = Later(home)
        later.make("raw_pool", "task_labels", "annotations", "held_out_items", "contamination", "base_model", *LISTS)
        yield later


def sheet_of(later: Later, name: str = "later-held-out.jsonl") -> list[dict[str, str]]:
    return [json.loads(line) for line in (later.home.folder / name).read_text().splitlines()]


def test_without_an_answer_nothing_is_scored_and_the_next_step_is_named(later: Later) -> None:
    table = later.store.read_table("held_out_items").table
    assert table["response"].null_count == 6 and sorted(table["task"].to_pylist()) == ["order"] * 3 + ["refund"] * 3
    (found,) = plan(later.experiment, later.store).benchmarks
    assert (found.asked_n, found.items_n, found.open_n) == (0, 6, 6)
    assert later.next == [
        "next: taskdiv annotations export later --budget 4 --strategy random   (4 prompts to send out)",
        "then: taskdiv annotations export later --held-out   (6 held-out items to send out)",
    ]
    missing = missing_units(later.experiment, later.store, None, Filter())
    assert SCORES.isdisjoint(unit.asset for unit in missing) and Unit("adapter", CELL) in missing
    with pytest.raises(
        StaleInputError, match="none of the items of `held_out` has an answer yet, and later has no other"
    ):
        later.lineage.expect(Unit("base_scores"))
    unscored = (
        "held_out is not scored: none of its 6 items has an answer yet.",
        "taskdiv annotations export later --held-out",
    )
    assert later.missing_on_the_page[-1] == unscored
    assert not any("Not stored" in text for text, _ in later.missing_on_the_page)


@pytest.mark.full
def test_the_items_go_out_as_lists_do_each_once(later: Later) -> None:
    held = set(later.column("held_out_items", "prompt_id"))
    said = later.say("export", "later", "--held-out", "--with", "topic")
    assert "6 prompts to annotate, 3.00 EUR at 0.50 EUR each" in said
    sheet = sheet_of(later)
    assert {row["prompt_id"] for row in sheet} == held and {row["topic"] for row in sheet} == {"refund", "order"}
    assert [row["rank"] for row in sheet] == list(range(6)) and next(iter(sheet[0])) == "ticket"
    (entry,) = ledger.entries(later.store)
    assert entry.cell == ledger.HELD_OUT and set(entry.prompt_ids) == held and ledger.read(later.store) == []
    again = later.say("export", "later", "--held-out")
    assert "nothing new to send out: 6 are out already, 0 have their answer" in again
    assert "held-out items" in later.say("list", "later")
    assert "6 prompts of export 1" in later.say("rewrite", "later", "1", "--format", "csv")
    waiting = "then: taskdiv annotations import later FILE   (waiting for the answers to 6 held-out items)"
    assert later.next[-1] == waiting
    found = results.load(later.store.url)
    assert found.lists is not None and [one.strategy for one in found.lists.exports] == ["held_out"]
    refused = later.home.say("annotations", "export", "later", "--held-out", "--budget", "4")
    assert refused.returncode == 2 and "leave out --budget, --strategy and --seed" in refused.stderr


def test_answers_to_items_are_scored_and_never_trained_on(later: Later) -> None:
    held, pool = set(later.column("held_out_items", "prompt_id")), later.column("raw_pool", "prompt_id")
    allocation = later.lineage.expect(Unit("allocation", CELL)).identity
    later.say("export", "later", "--held-out")
    sheet = sheet_of(later)
    said = later.answer(sheet[:4])
    assert "held out: 4 of these prompts are items of the benchmark `held_out`" in said
    assert later.store.read_table("annotations").table.num_rows == 0
    footer = later.store.read_footer("annotations")
    assert footer is not None and footer.notes["held_out_n"] == 4 and footer.notes["not_in_pool_n"] == 0
    assert held.isdisjoint(known_answers(later.store))
    assert later.column("raw_pool", "prompt_id") == pool and later.lineage.is_fresh(Unit("raw_pool"))
    assert later.lineage.expect(Unit("allocation", CELL)).identity == allocation
    later.make("base_scores")
    answered = {row["prompt_id"] for row in sheet[:4]}
    scored = later.column("base_scores", "item_id")
    assert set(scored) == answered and len(scored) == 4 * 4 and "chrf" in later.column("base_scores", "metric")

    # Answers for training leave the items and their scores as they are.
    items = later.lineage.expect(Unit("held_out_items")).identity
    later.make(*LISTS)
    later.say("export", "later", "--strategy", "random", "-o", "list.jsonl")
    chosen = sheet_of(later, "list.jsonl")
    assert len(chosen) == 4 and held.isdisjoint(row["prompt_id"] for row in chosen)
    assert "held out" not in later.answer(chosen)
    assert later.lineage.expect(Unit("held_out_items")).identity == items
    assert later.lineage.is_fresh(Unit("base_scores"))
    later.make(Unit("adapter", CELL), Unit("benchmark_scores", CELL))
    assert set(later.column("benchmark_scores", "item_id", CELL)) == answered
    found = results.load(later.store.url)
    (section, *_) = analysis.sections(found)
    assert asked.sentences(found, section)[0].startswith("The items are 4 answered prompts of this pool")
    assert (
        section.scores.metric == "chrf" and "wrote an answer of at most 3 tokens" in asked.sentences(found, section)[1]
    )
    (benchmark,) = found.experiment.benchmarks
    assert benchmark.generated is not None and len(found.examples.outputs) > 0
    shown = [said.text for one in found.examples.outputs for said in one.said]
    assert all(0 < len(text.split()) <= 3 for text in shown), shown
    open_items = (
        "2 of 6 held-out items have no answer yet and are not scored.",
        "taskdiv annotations export later --held-out",
    )
    assert open_items in later.missing_on_the_page

    # The other answers make the scores stale, and nothing else.
    later.answer(sheet)
    states = {unit: later.lineage.state(unit).status for unit in (Unit("base_scores"), Unit("benchmark_scores", CELL))}
    assert set(states.values()) == {"stale"} and later.lineage.is_fresh(Unit("adapter", CELL))
    later.make("base_scores")
    assert set(later.column("base_scores", "item_id")) == held
    (benchmark,) = plan(later.experiment, later.store).benchmarks
    assert (benchmark.asked_n, benchmark.open_n) == (6, 0) and not any("held" in line for line in later.next)


@pytest.mark.full
def test_an_answer_to_an_item_among_training_answers_breaks_the_contract(later: Later) -> None:
    later.say("export", "later", "--strategy", "random", "-o", "list.jsonl")
    later.answer(sheet_of(later, "list.jsonl"))
    lineage, unit = later.lineage, Unit("annotations")
    work = Work(later.experiment, later.store, lineage, unit, lineage.expect(unit), str)
    contract, good = data_contracts.load("annotations"), later.store.read_table("annotations").table
    assert data_contracts.validate(contract, good, work.parameters()).is_valid
    held = sorted(later.column("held_out_items", "prompt_id"), key=str)
    leaking = good.set_column(0, good.schema.field(0), pa.array(held[:4]))
    result = data_contracts.validate(contract, leaking, work.parameters())
    broken = {rule.rule for rule in result.failed if rule.severity == "error"}
    assert broken == {"no_held_out_item", "prompts_in_pool"}
