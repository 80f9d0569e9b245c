"""The commands that the user should run next, chosen by the progress of a part of an experiment."""

from __future__ import annotations

from typing import NamedTuple

from taskdiv_assets.graph.cells import Cell


class Standing(NamedTuple):
    """Progress of the part of an experiment that a command selects with `--budget` and `--strategy`."""

    is_campaign: bool  # the experiment buys labels
    is_listed: bool  # every cell has a fresh allocation, and the cell `to_send` a fresh annotation batch
    to_send: Cell | None  # first cell with unsent prompts that need an answer
    to_send_n: int  # number of these prompts
    seed: int | None  # first selection seed of the cell `to_send` if it has several; otherwise None
    out_n: int  # prompts of all cells that were sent and have no answer yet
    answered_n: int  # prompts of all cells that have an answer
    ready_n: int  # cells with all answers but not all results
    is_done: bool  # every result is fresh, except `tuning_choice` and scores that wait for answers
    items_to_send_n: int = 0  # held-out items that need an answer and were not sent
    items_out_n: int = 0  # held-out items that were sent and have no answer yet
    gone_n: int = 0  # prompts that were sent, have no answer, and are no longer in the pool


def next_lines(name: str, options: str, standing: Standing) -> list[str]:
    """Return lines with the next commands, in order. The list is empty for a finished study without open held-out items.

    `name` is the experiment's name or path in the lines. `options` are the options `--budget` and `--strategy` of `taskdiv run`.
    """
    run = f"taskdiv run {name}{options}"
    is_buying = standing.is_campaign and standing.is_listed
    steps = _of_lists(name, run, standing) if is_buying else []
    if not is_buying and not (standing.is_done and not standing.is_campaign):
        steps.append(run)
    if standing.items_to_send_n:
        what = f"{standing.items_to_send_n:,} held-out items to send out"
        steps.append(f"taskdiv annotations export {name} --held-out   ({what})")
    waiting = []
    if is_buying and standing.out_n:
        of = f" of {standing.out_n + standing.answered_n:,}" if standing.answered_n else ""
        waiting.append(f"for {standing.out_n:,}{of} answers")
    if standing.items_out_n:
        waiting.append(f"for the answers to {standing.items_out_n:,} held-out items")
    if waiting:
        steps.append(f"taskdiv annotations import {name} FILE   (waiting {' and '.join(waiting)})")
    if not steps and standing.is_campaign:
        steps.append(f"taskdiv budget add {name} N   (to buy more; all answers are in)" if standing.is_done else run)
    return [f"{'then' if place else 'next'}: {step}" for place, step in enumerate(steps)]


def _of_lists(name: str, run: str, standing: Standing) -> list[str]:
    """Return up to two commands: train the cells whose prompts all have answers, and export the next prompts to annotate."""
    steps = []
    if standing.ready_n:
        cells = "cell has its" if standing.ready_n == 1 else "cells have their"
        steps.append(f"{run}   ({standing.ready_n:,} {cells} answers)")
    if standing.to_send is not None:
        seed = "" if standing.seed is None else f" --seed {standing.seed}"
        chosen = f"--budget {standing.to_send.budget_n} --strategy {standing.to_send.strategy}{seed}"
        steps.append(f"taskdiv annotations export {name} {chosen}   ({standing.to_send_n:,} prompts to send out)")
    return steps
