"""Sentences on lists of chosen prompts, and the commands of the next steps.

Most sentences are for the page before there are scores. The page with scores uses `left_out`, and in a campaign `next_steps`.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from reports import words
from reports.analysis import Section
from reports.expected_cells import waits_for_items
from reports.lists.list_numbers import Counts, Lists
from reports.results import Results

NAMES_LISTED_N = 5
COMMANDS_N = 3  # exports with their command; a campaign may have many lists
ALL_PROMPTS = "all prompts"  # the only task if the source has no tasks


def claims(results: Results, sections: Sequence[Section]) -> list[tuple[str, str, str]]:
    """Return topic, text and verdict of the claims on chosen prompts, on missing scores, and on costs.

    The claim on costs needs a price and at least one list. If the page has no lists, there are no claims.
    """
    if results.lists is None:
        return []
    found = [_chosen(results, results.lists), _unscored(results, sections)]
    if results.money is not None and results.lists.states:
        found.append(_cost(results, results.lists.total))
    return found


def _chosen(results: Results, lists: Lists) -> tuple[str, str, str]:
    of, chosen_n = f" of {results.pool_n:,}" if results.pool_n is not None else "", lists.total.chosen_n
    if not lists.states:
        return "Chosen prompts", f"0{of} prompts are chosen: no list exists yet.", "missing"
    text = f"{chosen_n:,}{of} prompts {'is' if chosen_n == 1 else 'are'} chosen by {_who(lists)}"
    return "Chosen prompts", f"{text}; {progress(results, lists.total)}.", _verdict(lists.total)


def progress(results: Results, counts: Counts) -> str:
    """Return clauses on the progress of chosen prompts: sent out, answered, known and missing."""
    parts = []
    if results.experiment.is_campaign or counts.sent_n:
        back = "answer" if counts.answered_n == 1 else "answers"
        sent = f"{counts.sent_n:,} {'is' if counts.sent_n == 1 else 'are'} sent out"
        parts = [sent, f"{counts.answered_n:,} {back} came back"]
    if counts.known_n:
        answer = "has its answer" if counts.known_n == 1 else "have their answer"
        parts.append(f"{counts.known_n:,} {answer} from the pool")
    if not parts or (counts.missing_n and counts.missing_n != counts.chosen_n):
        parts.append("1 answer is missing" if counts.missing_n == 1 else f"{counts.missing_n:,} answers are missing")
    return "; ".join(parts)


def _who(lists: Lists) -> str:
    names = words.listing(lists.strategies, most_n=NAMES_LISTED_N)
    if len(lists.states) < 2:
        return names
    budgets = words.listing([f"{budget:,}" for budget in lists.budgets], most_n=NAMES_LISTED_N)
    each = ", each prompt counted once" if len(lists.strategies) > 1 else ""
    return f"{names} at {budgets} labels{each}"


def _verdict(total: Counts) -> str:
    if not total.missing_n:
        return "all answered"
    answered_n = total.answered_n + total.known_n
    return f"{answered_n:,} of {total.chosen_n:,} answered" if answered_n else "no answers yet"


def _unscored(results: Results, sections: Sequence[Section]) -> tuple[str, str, str]:
    several = len(results.experiment.strategies) > 1
    what = "so no strategy can be compared with another"
    if not several:
        what = "so it is not known yet whether the choice is good"
    text = f"No benchmark scores are stored, {what}."
    levels = [
        f"{words.score(section.base.estimate)} on {words.clean(section.scores.benchmark, 40)} "
        f"({words.clean(section.scores.metric, 40)})"
        for section in sections
        if section.base is not None and math.isfinite(section.base.estimate)
    ]
    if levels:
        text += f" The base model alone scores {words.listing(levels, most_n=NAMES_LISTED_N)}."
    if not results.experiment.base_model:
        text += " The experiment file names no base model: nothing is trained."
    elif not results.experiment.benchmarks:
        text += " The experiment file names no benchmark: nothing is scored."
    return "Which choice is better" if several else "Whether the choice is good", text, "no scores yet"


def _cost(results: Results, total: Counts) -> tuple[str, str, str]:
    money = results.money
    if money is None:
        raise ValueError("the experiment has no price; expected one where costs are said")
    if money.is_hypothetical:
        text = f"The chosen labels would cost {money.amount(money.price * total.chosen_n)}: {money.basis}."
        return "Cost", text, "nothing to pay"
    spent, open_ = money.amount(money.price * total.answered_n), money.amount(money.price * total.missing_n)
    waiting = money.amount(money.price * total.waiting_n)
    text = (
        f"Spent: {spent}, for {words.count(total.answered_n, 'answer')}. "
        f"Open: {open_}, for {words.count(total.missing_n, 'answer')}"
        + (f", of which {waiting} is sent out" if total.waiting_n else "")
        + f". The price is {money.basis}."
    )
    return "Cost", text, f"{total.answered_n:,} of {total.answered_n + total.missing_n:,} paid"


def next_steps(results: Results) -> list[tuple[str, str]]:
    """Return the next steps: pairs of a sentence and a command. There are none if the page has no lists."""
    lists, name = results.lists, results.experiment.name
    if lists is None:
        return []
    made = {(state.strategy, state.budget_n) for state in lists.states}
    cells = [cell for cell in results.cells if not cell.is_full_pool]
    absent_n = sum((cell.strategy, cell.budget_n) not in made for cell in cells)
    steps = []
    if absent_n or not cells:
        which = f"{absent_n} of {words.count(len(cells), 'list')} {'is' if absent_n == 1 else 'are'} not stored yet."
        steps.append((which if cells else "No list exists yet.", f"taskdiv run {name}"))
    steps += _exports(results, lists)
    if lists.total.waiting_n:
        out_n = lists.total.waiting_n
        one, more = "prompt is sent out and waits for its answer", "prompts are sent out and wait for answers"
        steps.append((f"{out_n:,} {one if out_n == 1 else more}.", f"taskdiv annotations import {name} FILE"))
    return [*steps, *_trainings(results, lists)]


def _exports(results: Results, lists: Lists) -> list[tuple[str, str]]:
    """Return pairs of a sentence and a command to export each strategy's smallest list with prompts to send out.

    With more than `COMMANDS_N` such lists, the last pair counts the other strategies and has the command that lists them.
    """
    name, found = results.experiment.name, []
    for strategy in lists.strategies:
        state = next((one for one in lists.of(strategy) if one.counts.missing_n > one.counts.waiting_n), None)
        if state is not None:
            open_n = state.counts.missing_n - state.counts.waiting_n
            seed = f" --seed {state.seeds[0]}" if len(state.seeds) > 1 else ""
            wait = "prompt waits" if open_n == 1 else "prompts wait"
            text = f"{open_n:,} {wait} to be sent out: {strategy} at {state.budget_n:,} labels."
            command = f"taskdiv annotations export {name} --budget {state.budget_n} --strategy {strategy}{seed}"
            found.append((text, command))
    if len(found) > COMMANDS_N:
        more = f"{words.count(len(found) - COMMANDS_N, 'more strategy', 'more strategies')} with prompts to send out."
        found = [*found[:COMMANDS_N], (more, f"taskdiv annotations list {name}")]
    return found


def _trainings(results: Results, lists: Lists) -> list[tuple[str, str]]:
    """Return at most one pair of sentence and command: how to train and score the lists that have all answers."""
    experiment = results.experiment
    done = {(cell.strategy, cell.budget_n) for cell in results.cells if cell.status == "done" and not cell.is_full_pool}
    answered = [state for state in lists.states if not state.counts.missing_n]
    whole = [state for state in answered if (state.strategy, state.budget_n) not in done]
    if experiment.stages[-1] != "benchmark_scores":
        if lists.total.missing_n or not lists.states:
            return []
        named = [key for key in ("base_model", "benchmarks") if key not in experiment.has]
        text = f"All answers are stored. To train and score, add {words.listing(named)} to the experiment file, then run it."
        return [(text, f"taskdiv run {experiment.name}")]
    if not whole or waits_for_items(experiment, results.tables):  # then `asked.skipped` names the next step
        return []
    if len(whole) == len(lists.states):
        return [("All answers are stored: train and score.", f"taskdiv run {experiment.name}")]
    one = whole[0]
    have = "has" if len(whole) == 1 else "have"
    text = f"{words.count(len(whole), 'list')} of {len(lists.states)} {have} every answer: train and score."
    return [(text, f"taskdiv run {experiment.name} --budget {one.budget_n} --strategy {one.strategy}")]


def no_tasks(results: Results) -> str:
    """Return a sentence on why prompts are not compared by task; empty if there are several tasks."""
    if len(results.task_sizes) > 1:
        return ""
    task = next(iter(results.task_sizes), ALL_PROMPTS)
    if task == ALL_PROMPTS:
        return "The pool names no tasks, so prompts are compared by their length instead."
    return f"All prompts are of one task, {words.clean(task, 60)}, so they are compared by their length instead."


def lengths(lists: Lists) -> str:
    """Return the caption of the figure of lengths, with the median length of the pool and of each strategy's largest list.

    At most `NAMES_LISTED_N` lists are named; for more, the number of the others.
    """
    lengths = {name: values for name, values in lists.lengths.items() if len(values)}
    medians = {name: float(np.quantile(own, 0.5, method="inverted_cdf")) for name, own in lengths.items()}
    named = [f"{median:,.0f} characters for {name}" for name, median in medians.items() if name]
    chosen = words.listing(named, most_n=NAMES_LISTED_N)
    return (
        f"Share of prompts by length, of the pool and of each strategy’s largest list. Half of the pool’s prompts have at most "
        f"{medians.get('', 0):,.0f} characters; half of the chosen ones at most {chosen}."
    )


def by_task(results: Results, budget_n: int, names: Sequence[str]) -> str:
    """Return the caption of the figure of chosen prompts by task, with the strategies that leave tasks out."""
    end = left_out(results, {name: results.allocations[name, budget_n] for name in names}, NAMES_LISTED_N)
    return (
        f"Share of each task in the pool and among the prompts chosen at {budget_n:,} labels, largest task first. {end}"
    )


def left_out(results: Results, counts: Mapping[str, Mapping[str, float]], most_n: int = 99) -> str:
    """Return a sentence on tasks from which strategies take no prompt. `counts` has numbers of prompts by strategy and task."""
    skipped = {name: sum(own.get(task, 0.0) == 0 for task in results.task_sizes) for name, own in counts.items()}
    left = [f"{name} leaves out {words.count(n, 'task')}" for name, n in skipped.items() if n]
    return f"{words.listing(left, most_n=most_n)}." if left else "Every strategy takes from every task."
