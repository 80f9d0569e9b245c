"""Sentences on found tasks. A lead reads the first ones, a sceptic all of them."""

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from reports import words
from reports.found.found_numbers import Found, Note
from reports.results import Results

STABLE_MIN = 0.5  # adjusted Rand index: the bound of the contract's rule
PROMPTS_MIN = 20  # prompts of a found task, on average: the bound of another rule
TASKS_MAX = 1_000  # largest `tasks` that an experiment file may ask for
MOVED_MAX = 0.1  # share of prompts: more is called partly stable
EVEN = "task_diversity"
DISTANCE_NOTE = (
    "The distance is the share of a list that would have to move to other tasks of the source, to spread the list evenly over "
    "them. 0 is even. It is the mean over the seeds of the selection, and for random choice the expected value. A weighted "
    "strategy does not aim at an even spread."
)
NOT_MEASURED = "The labels that another seed would move were not counted when these tasks were stored."
NOT_COMPARED = "These tasks were not compared with tasks of the source when they were stored."


class Warned(NamedTuple):
    """A warning of the contract in one sentence, with the next step and a command or setting."""

    text: str
    remedy: str


def lead(results: Results, found: Found) -> str:
    """Return how many tasks were found, from what, and how large they are."""
    note = found.note
    sizes = sorted(one.prompts_n for one in note.tasks)
    prompts_n, few = sum(sizes), len(sizes) == 1
    middle = f" Half of them have at most {statistics.median_low(sizes):,}." if len(sizes) > 2 else ""
    ends = f"The largest has {words.count(sizes[-1], 'prompt')}, the smallest {sizes[0]:,}.{middle}" if not few else ""
    others_n = (results.pool_n or prompts_n) - prompts_n
    others = (
        f" The tasks of another {words.count(others_n, 'prompt')} come from rules, labels or votes."
        if others_n > 0
        else ""
    )
    if note.joined_n:
        ends += (
            f" {words.count(note.joined_n, 'prompt')} came after annotations were bought, and joined the nearest task. The "
            "numbers below on chance and on tasks of the source are of the pool before."
        )
    return (
        f"taskdiv grouped the prompts of this pool by similarity (view: {words.clean(note.view, 40)}), and each group is a task. "
        f"{words.count(len(sizes), 'task')} {'was' if few else 'were'} found among {words.count(prompts_n, 'prompt')}; "
        f"{note.tasks_n:,} were looked for. {ends}{others}"
    ).strip()


def stability(found: Found) -> str:
    """Return whether the tasks are stable, and the share of prompts that another seed would move."""
    agreement = found.note.agreement
    bound = min(agreement.between_seeds, agreement.between_halves) >= STABLE_MIN
    is_stable = bound if found.is_stable is None else found.is_stable
    degree = "not stable" if not is_stable else "stable" if agreement.moved_share <= MOVED_MAX else "only partly stable"
    halves = ", and another half of the pool gives other tasks" if agreement.between_halves < STABLE_MIN else ""
    moved_share = percent(agreement.moved_share)
    return f"Found tasks are {degree}: another seed would move {moved_share} of the prompts to another task{halves}."


def evenness(found: Found) -> str:
    """Return whether a list over found tasks covers the source's tasks more evenly than random choice; "" if not known."""
    by_strategy: dict[str, list[bool]] = {}
    for (strategy, _), distance in sorted(found.distances.items()):
        by_strategy.setdefault(strategy, []).append(distance.own < distance.random)
    if not by_strategy:
        return ""
    name = EVEN if EVEN in by_strategy else next(iter(by_strategy))
    wins_n, budgets_n = sum(by_strategy[name]), len(by_strategy[name])
    which = "its budget" if budgets_n == 1 else f"all {budgets_n} budgets"
    if 0 < wins_n < budgets_n:
        which = f"{wins_n} of {budgets_n} budgets"
    shown = words.clean(name, 60)
    if not wins_n:
        return (
            f"The source names tasks, too. Random choice covers them as evenly as {shown} over found tasks, or more evenly, "
            f"at {which}."
        )
    return (
        f"The source names tasks, too. {shown} over found tasks covers them more evenly than random choice at {which}."
    )


def warnings(results: Results, found: Found) -> tuple[Warned, ...]:
    """Return the warnings of the contract that fired."""
    sizes = [one.prompts_n for one in found.note.tasks]
    name, prompts_n = results.experiment.name, sum(sizes)
    pool_n, most_n = max(results.pool_n or 0, prompts_n), max(2, min(prompts_n // PROMPTS_MIN, TASKS_MAX))
    advice, remedy = "Choose at random", "strategies: [random]"
    if most_n > len(sizes):
        advice, remedy = "Look for more tasks", f"tasks: {most_n}"
    edit = f"taskdiv tasks export {name} --out tasks.csv"
    texts: Mapping[str, Warned] = {
        "found_tasks_have_prompts": Warned(
            f"A found task has {prompts_n / len(sizes):,.1f} prompts on average, and tasks with fewer than {PROMPTS_MIN} are "
            "mostly chance. Look for fewer tasks, with this key in task_labels of the experiment file:",
            f"tasks: {most_n}",
        ),
        "found_tasks_are_enough": Warned(
            "Even the smallest budget takes more than 8 prompts of each task. With so many, an even spread over found tasks was "
            f"hardly better than random choice on the pools that we measured. {advice}:",
            remedy,
        ),
        "no_found_task_dominates": Warned(
            f"The largest found task has {percent(max(sizes) / pool_n)} of the pool, but an even spread "
            "gives it no more labels than a small one. Split it in a file, and use the file as task_labels (from: mapping):",
            edit,
        ),
        "found_tasks_are_stable": Warned(
            "Another seed, or another half of the pool, gives other tasks, so chance decides much of a list. Read the tasks in a "
            "file, merge those that you cannot tell apart, and use the file as task_labels (from: mapping):",
            edit,
        ),
    }
    return tuple(texts[rule] for rule in found.broken)


def map_caption(note: Note, drawn_n: int, named_n: int) -> str:
    """Return the caption of the map."""
    only = "" if drawn_n == len(note.tasks) else f" The {drawn_n:,} largest of {len(note.tasks):,} tasks are drawn."
    named = "" if named_n >= drawn_n else f" Only the {named_n} largest are named."
    return (
        "A circle is a found task, and its area shows the number of its prompts. Tasks that are near each other have similar "
        f"prompts; the axes have no unit, and two dimensions cannot show every difference.{only}{named}"
    )


def repetitions(note: Note) -> str:
    """Return the two agreements, and the meaning of stable."""
    agreement = note.agreement
    return (
        f"The tasks were found again under another seed of k-means, and twice from one half of the pool. The agreement is "
        f"{two(agreement.between_seeds)} between the two seeds and {two(agreement.between_halves)} between the two halves "
        f"(adjusted Rand index: 1 is equal, 0 is chance). A prompt is moved if it is in another task after the tasks of both "
        f"seeds were matched one to one. “Not stable” means that an agreement is below {STABLE_MIN}, and “partly stable” that "
        f"more than {MOVED_MAX:.0%} of the prompts are moved."
    )


def moved(note: Note, budgets: tuple[int, ...]) -> str:
    """Return what the table of moved labels shows, or why there is none."""
    if note.moved_labels is None:
        return NOT_MEASURED
    known = {one.budget_n: one.share for one in note.moved_labels if one.budget_n in budgets}
    if not known:
        return "No budget of this page was known when the tasks were found, so the labels that would move were not measured."
    largest = max(known)
    later = " Budgets that were added later are not measured." if set(budgets) - set(known) else ""
    return (
        f"Of {words.count(largest, 'label')}, {percent(known[largest])} would go to other tasks: {EVEN} chose a second list, "
        f"from the tasks of the other seed but under the same seed of the selection, and the prompts of both lists were counted "
        f"by the tasks of this page.{later}"
    )


def with_true(note: Note) -> str:
    """Return the agreement with the tasks of the source, or why it is not known."""
    one = note.with_true
    if note.moved_labels is None and one is None:
        return NOT_COMPARED
    if one is None:
        return "The source does not name the task of every prompt, so the agreement with true tasks is not known."
    return (
        f"The source names {words.count(one.tasks_n, 'task')} for these {words.count(one.prompts_n, 'prompt')}. The search did "
        f"not read them. Adjusted Rand index {two(one.rand)}, normalised mutual information {two(one.information)}, purity "
        f"{two(one.purity)} (the share of prompts with the commonest task of the source in their found task); 1 is equal."
    )


def percent(value: float) -> str:
    """Return a share as a whole percentage.

    >>> percent(0.314), percent(0.002), percent(0.0)
    ('31%', 'less than 1%', '0%')
    """
    return "less than 1%" if 0 < value < 0.005 else f"{value:.0%}"


def two(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
