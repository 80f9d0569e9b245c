"""The `taskdiv export` command: the training examples of a cell as a folder for another trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import typer

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.adapter import examples_of, refuse_missing_answers
from taskdiv_assets.cards.rendering import data_card
from taskdiv_assets.cards.stored_cards import selection_facts
from taskdiv_assets.commands.consoles import near, note, plain_errors, say
from taskdiv_assets.commands.new_folder import new_folder
from taskdiv_assets.commands.opening import EXPERIMENT, open_experiment
from taskdiv_assets.commands.trainer_files import ROWS, TRAINERS, BaseFiles, TrainingRow, TrainingSet, files
from taskdiv_assets.experiment import ADD_BASE_MODEL, Experiment, parse_budget
from taskdiv_assets.graph import cells
from taskdiv_assets.graph.adapter_plan import AdapterPlan, plan_adapters
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.control import plain
from taskdiv_assets.language_model.texts import read_tokenizer
from taskdiv_assets.language_model.tuning.training_examples import NO_END, Example, checked
from taskdiv_assets.storage.store import Store

CARD = "README.md"
BUDGET = Annotated[str, typer.Option("--budget", metavar="N", help="Budget of the cell.")]
STRATEGY = Annotated[str, typer.Option("--strategy", metavar="S", help="Strategy of the cell.")]
TRAINER = Annotated[str, typer.Option("--to", metavar="TRAINER", help=f"One of {', '.join(TRAINERS)}.")]
SEED = Annotated[int | None, typer.Option(metavar="K", help="Training seed. A study needs it if it has several.")]
OUTPUT = Annotated[Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder.")]


class Exported(NamedTuple):
    """The rows of an export, and facts about them."""

    found: TrainingSet
    card: str
    held_n: int  # rows with the text of a special token
    left_out: str  # layers that our stored adapter leaves out; empty if there are none, or no adapter is stored


def export(
    experiment: EXPERIMENT, budget: BUDGET, strategy: STRATEGY, to: TRAINER, seed: SEED = None, output: OUTPUT = None
) -> None:
    """Write the chosen prompts with their answers to a new folder, for another trainer.

    The folder has the examples that `taskdiv run` trains on, a configuration with the same hyper-parameters, and a data card.
    trl, axolotl and llama-factory get the prompts as the model reads them; jsonl has the prompts of the pool.

    Example: taskdiv export demo_quick --budget 256 --strategy random --seed 0 --to trl
    """
    with plain_errors():
        if to not in TRAINERS:
            raise ValueError(f"--to {to!r} is not a trainer; expected one of {', '.join(TRAINERS)}")
        chosen = open_experiment(experiment)
        if chosen.base_model is None and to != "jsonl":
            raise ValueError(
                f"{chosen.name} names no base model, and {to} needs one; {ADD_BASE_MODEL}, or use --to jsonl"
            )
        lineage, cell = REGISTRY.look(chosen, Store(chosen.name)), Cell(parse_budget(budget), strategy)
        training_seed = _seed(chosen, lineage, cell, seed)
        name = f"{chosen.name}-{strategy}-{budget}-seed{training_seed}-{to}"
        target = (output or Path(name)).expanduser().absolute()
        with new_folder(target) as folder:
            result = gather(lineage, cell, training_seed)
            for file, content in files(result.found, to).items():
                (folder / file).write_bytes(content)
            (folder / CARD).write_text(result.card + _section(result, to, cell), encoding="utf-8")
        say(f"{len(result.found.rows):,} examples of {cell.key}, seed {training_seed}, for {to}")
        say(f"folder: {near(target)}")
        if result.held_n:
            note(f"note: {_about_special_tokens(result.held_n)}")


def gather(lineage: Lineage, cell: Cell, seed: int) -> Exported:
    """Return the training examples of one seed of a cell, in the order in which the strategy chose them.

    Raise ValueError if an answer is missing, and StaleInputError if a table that the training needs is not fresh.
    """
    experiment, store = lineage.experiment, lineage.store
    plan = _plan(lineage, cell, seed)
    # Without a base model there is no adapter, and the list reads the same tables.
    work = _work(lineage, Unit("annotation_batch" if experiment.base_model is None else "adapter", cell.key))
    refuse_missing_answers(work, [plan])
    chosen = lineage.read("allocation", cell.key)
    chosen = chosen.filter(pc.equal(chosen["selection_seed"], plan.selection_seed))
    rows, tuning = _rows(work, plan, chosen), experiment.tuning.at(plan.learning_rate)
    card = _data_card(lineage, cell, chosen)
    if experiment.base_model is None:
        return Exported(TrainingSet(rows, tuning, seed, experiment.prompt_template), card, 0, "")
    held_n = len(lineage.held.pairs.intersection(plan.prompt_ids.to_pylist()))
    found = TrainingSet(rows, tuning, seed, work.template, _base_of(lineage))
    return Exported(found, card, held_n, _left_out(store, plan))


def _plan(lineage: Lineage, cell: Cell, seed: int) -> AdapterPlan:
    experiment = lineage.experiment
    if experiment.base_model is not None:
        return next(plan for plan in lineage.adapter_plans(cell) if plan.training_seed == seed)
    tuning, seeds = experiment.tuning, {seed: experiment.selection_seed_of(seed)}
    rate = tuning.rate if tuning.candidates is None else tuning.candidates.choose[0]
    (plan,) = plan_adapters(lineage.read("allocation", cell.key), lineage.answer_hashes, seeds, tuning.at(rate), [], "")
    return plan


def _base_of(lineage: Lineage) -> BaseFiles:
    base, source = lineage.fresh(Unit("base_model")), lineage.experiment.base
    folder = lineage.store.fetch_folder(base.identity)
    reading = read_tokenizer(folder)
    if not (end := reading.tokenizer.eos_token):
        raise ValueError(NO_END)
    place, revision = (source.hub, source.revision) if source.hub else (str(folder), None)
    return BaseFiles(place, revision, str(base.notes["dtype"]), reading.start, str(end))


def _rows(work: Work, plan: AdapterPlan, chosen: pa.Table) -> tuple[TrainingRow, ...]:
    tasks = dict(zip(chosen["prompt_id"].to_pylist(), chosen["task"].to_pylist(), strict=True))
    pool, prompt_ids = work.read("raw_pool"), plan.prompt_ids.to_pylist()
    prompts: dict[str, str] = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    others = work.lineage.other_answers  # further answers, if the experiment trains on both
    if work.experiment.base_model is None:
        answers = work.lineage.answers
        examples = [
            Example(name, prompts[name], answer)
            for name in prompt_ids
            for answer in (answers[name] or "", *others.get(name, ()))
        ]
    else:
        examples = examples_of(work, prompt_ids, others)
    checked(examples)  # raises the training's error for a blank answer
    return tuple(
        TrainingRow(one.prompt_id, tasks[one.prompt_id], prompts[one.prompt_id], plain(one.prompt), one.response)
        for one in examples
    )


def _work(lineage: Lineage, unit: Unit) -> Work:
    return Work(lineage.experiment, lineage.store, lineage, unit, lineage.expect(unit), lambda _: None)


def _data_card(lineage: Lineage, cell: Cell, chosen: pa.Table) -> str:
    """Return the data card of one selection of a cell, with the answers that are known now."""
    facts = selection_facts(_work(lineage, Unit("allocation", cell.key)), chosen)
    return data_card(facts, beside=f"The file `{ROWS}` beside this card has the prompts with their answers.")


def _left_out(store: Store, plan: AdapterPlan) -> str:
    manifest: dict[str, Any] = store.read_manifest(plan.identity) or {}
    return str(manifest.get("choices", {}).get("left out of the adapter", ""))


def _seed(experiment: Experiment, lineage: Lineage, cell: Cell, seed: int | None) -> int:
    """Return the training seed of an export. Raise ValueError if the cell or the seed is unknown, or if a seed is needed."""
    name, known = experiment.name, cells.expected(experiment, lineage.store, lineage.pool_size)
    if cell not in known:
        budgets, strategies = ({str(value): None for value in column} for column in zip(*known, strict=True))
        raise ValueError(
            f"{cell.key} is not a cell of {name}; it has the budgets {', '.join(budgets)} and the strategies "
            f"{', '.join(strategies)}"
        )
    seeds = lineage.cell_seeds(cell)
    if seed is None and (len(seeds) == 1 or experiment.purpose == "campaign"):
        return seeds[0]
    if seed not in seeds:
        said = (
            "each training seed has its own prompts" if seed is None else f"{seed} is not a training seed of {cell.key}"
        )
        raise ValueError(f"{said}; expected --seed {', '.join(map(str, seeds))}")
    return seed


def _section(result: Exported, trainer: str, cell: Cell) -> str:
    found = result.found
    lines = [
        "## This folder",
        f"`{ROWS}` has {len(found.rows):,} examples of training seed {found.seed} of `{cell.key}`, in the layout of {trainer} "
        f"and in the order of the strategy. A training step takes {found.tuning.batch_size} examples, and there are "
        f"{found.steps_n:,} steps. Loss is on the answer and its end token.",
    ]
    if result.held_n:
        lines.append(_about_special_tokens(result.held_n).capitalize() + ".")
    if result.left_out:
        lines.append(f"Our own adapter leaves these layers out: {result.left_out}.")
    return "\n" + "\n\n".join(lines) + "\n"


def _about_special_tokens(held_n: int) -> str:
    return (
        f"{held_n:,} examples contain the text of a special token of the base model; our own training learns it as text, and "
        "other trainers read it as the token"
    )
