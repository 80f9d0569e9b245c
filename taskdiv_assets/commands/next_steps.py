"""What to do next, in a line or two with whole commands: pure, from where the wanted part of an experiment is."""

from __future__ import annotations

from typing import NamedTuple

from taskdiv_assets.graph.cells import Cell


class Standing(NamedTuple):
    """Where the wanted part of an experiment is.

    Attributes:
        is_campaign: it buys labels.
        is_listed: every cell's list is made, and none would change.
        to_send: the first cell with prompts that need an answer and were not sent out; None without one.
        to_send_n: such prompts of that cell.
        seed: selection seed of its list, where a cell has several; None where it has one.
        out_n: prompts of all cells that are sent out and have no answer yet.
        answered_n: prompts of all cells that have an answer.
        ready_n: cells with all their answers whose results are not all there.
        is_done: everything that can be made is made.
    """

    is_campaign: bool
    is_listed: bool
    to_send: Cell | None
    to_send_n: int
    seed: int | None
    out_n: int
    answered_n: int
    ready_n: int
    is_done: bool


def next_lines(name: str, options: str, standing: Standing) -> list[str]:
    """Return the commands that come next, the first one first; none for a study that is done.

    Args:
        name: or path by which the user names the experiment.
        options: that chose the wanted part, as `Filter.options` gives them.
        standing: where it is.
    """
    run = f"taskdiv run {name}{options}"
    if not standing.is_campaign:
        return [] if standing.is_done else [f"next: {run}"]
    if not standing.is_listed:
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
        steps.append(f"taskdiv budget add {name} N   (to buy more; every answer is in)" if standing.is_done else run)
    return [f"{'then' if place else 'next'}: {step}" for place, step in enumerate(steps)]
