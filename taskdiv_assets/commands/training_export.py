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
from taskdiv_assets.commands.trainer_files import ROWS, TRAINERS, TrainingRow, TrainingSet, files
from taskdiv_assets.experiment import ADD_BASE_MODEL, Experiment, parse_budget
from taskdiv_assets.graph import cells
from taskdiv_assets.graph.adapter_plan import AdapterPlan
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.control import plain
from taskdiv_assets.language_model.texts import read_tokenizer
from taskdiv_assets.language_model.tuning.training_examples import NO_END, checked
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
    plan = next(plan for plan in lineage.adapter_plans(cell) if plan.training_seed == seed)
    work = _work(lineage, Unit("adapter", cell.key))
    refuse_missing_answers(work, [plan])
    chosen = lineage.read("allocation", cell.key)
    tasks = dict(zip(chosen["prompt_id"].to_pylist(), chosen["task"].to_pylist(), strict=True))
    base = lineage.fresh(Unit("base_model"))
    folder = store.fetch_folder(base.identity)
    reading, source = read_tokenizer(folder), experiment.base
    if not (end := reading.tokenizer.eos_token):
        raise ValueError(NO_END)
    return Exported(
        TrainingSet(
            rows=_rows(work, plan, tasks),
            tuning=experiment.tuning.at(plan.learning_rate),
            seed=seed,
            base_model=source.hub or str(folder),
            revision=source.revision if source.hub else None,
            dtype=str(base.notes["dtype"]),
            start=reading.start,
            end=str(end),
            template=work.template,
        ),
        _data_card(lineage, cell, chosen.filter(pc.equal(chosen["selection_seed"], plan.selection_seed))),
        len(lineage.held.pairs.intersection(plan.prompt_ids.to_pylist())),
        _left_out(store, plan),
    )


def _rows(work: Work, plan: AdapterPlan, tasks: dict[str, str]) -> tuple[TrainingRow, ...]:
    pool = work.read("raw_pool")
    prompts: dict[str, str] = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    examples = examples_of(work, plan.prompt_ids.to_pylist())
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
    if experiment.base_model is None:
        raise ValueError(f"{name} names no base model; {ADD_BASE_MODEL}")
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
