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
    is_done: bool  # every result is fresh, except perhaps `tuning_choice`


def next_lines(name: str, options: str, standing: Standing) -> list[str]:
    """Return lines with the next commands, in order. The list is empty for a finished study.

    `name` is the experiment's name or path in these commands. `options` are their options `--budget` and `--strategy`.
    """
    run = f"taskdiv run {name}{options}"
    if not standing.is_campaign and standing.is_done:
        return []
    if not standing.is_campaign or not standing.is_listed:
        return [f"next: {run}"]
    steps = []
    if standing.ready_n:
        cells = "cell has its" if standing.ready_n == 1 else "cells have their"
        steps.append(f"{run}   ({standing.ready_n:,} {cells} answers)")
    if standing.to_send is not None:
        seed = "" if standing.seed is None else f" --seed {standing.seed}"
        chosen = f"--budget {standing.to_send.budget_n} --strategy {standing.to_send.strategy}{seed}"
        steps.append(f"taskdiv annotations export {name} {chosen}   ({standing.to_send_n:,} prompts to send out)")
    if standing.out_n:
        of = f" of {standing.out_n + standing.answered_n:,}" if standing.answered_n else ""
        steps.append(f"taskdiv annotations import {name} FILE   (waiting for {standing.out_n:,}{of} answers)")
    if not steps:
        steps.append(f"taskdiv budget add {name} N   (to buy more; all answers are in)" if standing.is_done else run)
    return [f"{'then' if place else 'next'}: {step}" for place, step in enumerate(steps)]
