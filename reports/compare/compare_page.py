"""The page of a comparison of systems: the same envelope, style, figures and tables as the report's page."""

import hashlib

import pyarrow as pa

from reports import envelope, figures, take_away, words
from reports.compare import compare_sentences as said
from reports.compare.common_items import Joined
from reports.compare.versus import Versus
from reports.page import Page
from reports.statistics import EQUIVALENCE_MARGIN, equivalence, task_means
from reports.svg import Picture, picture
from reports.tables import Table, differences, of_task, shortened

CONTENTS = (
    ("answer", "Answer"),
    ("differences", "Differences"),
    ("tasks", "By task"),
    ("files", "Files"),
    ("methods", "Methods"),
)
REPLACED = {"seeds": "runs"}  # column titles of the report's tables


def render(found: Versus, table: pa.Table) -> Page:
    """Return the page with the results table `table` inside. Equal files give equal text."""
    joined = found.joined
    names = [words.clean(system.name, 40) for system in joined.systems if system.name != joined.reference]
    context: dict[str, object] = {
        "title": f"{words.listing(names, most_n=4)} against {words.clean(joined.reference, 40)}",
        "metric": joined.metric,
        "basis": said.basis(found.comparisons[0].difference),
        "claims": said.claims(found),
        "findings": joined.findings,
        "forest": _forest(found),
        "differences": _differences(found),
        "means": _means(found),
        "heat_map": _heat_map(found),
        "by_task": _by_task(found),
        "systems": _systems(joined),
        "other_metrics": words.listing([words.clean(name, 60) for name in joined.other_metrics], most_n=12),
        "is_scored": True,
        "is_once": all(len(runs) == 1 for runs in joined.runs.values()),
        "contents": CONTENTS,
    }
    context["take"] = take_away.part_of("comparison", table, context, _citation(joined))
    html = envelope.environment().get_template("compare.html.j2").render(context).strip() + "\n"
    return Page(html, take_away.pictures(context))


def _citation(joined: Joined) -> str:
    """Return a line that cites the comparison: the systems, the software, and a hash of the files."""
    digests = "".join(sorted(digest for system in joined.systems for digest in system.digests))
    identity = hashlib.sha256(digests.encode()).hexdigest()[:12]
    names = words.listing([words.clean(system.name, 40) for system in joined.systems], most_n=6)
    return f"{names}: a comparison by {take_away.SOFTWARE}, of files with the hash {identity}."


def _forest(found: Versus) -> Picture:
    reference, named = found.joined.reference, [system.name for system in found.joined.systems]
    figure = figures.forest_of([(f"against {words.clean(reference, 28)}", found.comparisons)], named, reference)
    clear_n = sum(one.verdict in ("better", "worse") for one in found.comparisons)
    same_n = sum(equivalence(one.difference).is_shown for one in found.comparisons)
    separate = "separates" if clear_n == 1 else "separate"
    caption = (
        f"Differences in mean score from {words.clean(reference, 60)}, with 95% intervals. "
        f"{clear_n} of {words.count(len(found.comparisons), 'comparison')} {separate} from 0 (filled marks). The grey band is "
        f"±{EQUIVALENCE_MARGIN:g}: {same_n or 'none'} shown to be equivalent within it."
    )
    return picture(figure, "forest", "Differences", caption)


def _differences(found: Versus) -> Table:
    """Return the report's table of differences with the words of systems, without its column of budgets."""
    caption = f"{found.joined.metric}, mean over tasks; p-values with Holm’s correction over all rows"
    made = differences(found.comparisons, "differences-table", caption)
    kept = [place for place, title in enumerate(made.head) if title != "labels"]
    verdict_at = made.head.index("verdict")
    rows = []
    for one, row in zip(found.comparisons, made.rows, strict=True):
        own = [said.verdict(one.difference, cell) if place == verdict_at else cell for place, cell in enumerate(row)]
        rows.append(tuple(own[place] for place in kept))
    head = tuple(REPLACED.get(made.head[place], made.head[place]) for place in kept)
    numeric = frozenset(new for new, old in enumerate(kept) if old in made.numeric)
    return Table(made.name, made.caption, head, tuple(rows), numeric)


def _means(found: Versus) -> Table:
    ranked = sorted(found.means.items(), key=lambda pair: (-pair[1].estimate, pair[0]))
    rows = tuple(
        (
            name,
            said.place(found, name),
            words.score(mean.estimate),
            words.interval(mean, words.score),
            str(len(found.joined.runs[name])),
        )
        for name, mean in ranked
    )
    head = ("system", "beside the leader", "mean score", "95% interval", "runs")
    caption = f"{found.joined.metric}, mean over tasks; the leader has the highest mean"
    return Table("means", caption, head, rows, frozenset({2, 3, 4}))


def _heat_map(found: Versus) -> Picture | None:
    by_task = found.by_task
    if len(by_task.tasks) < 2:
        return None
    caption = (
        f"Score minus that of {words.clean(found.joined.reference, 60)} by task, highest mean difference first. "
        "Single tasks have few items: read patterns, not cells."
    )
    return picture(figures.task_heat_map(by_task, {}), "heat", "Differences by task", caption)


def _by_task(found: Versus) -> Table:
    joined, by_task = found.joined, found.by_task
    sizes = dict(zip(joined.scores.tasks, joined.scores.task_sizes.tolist(), strict=True))
    means = task_means(joined.arms[joined.reference], joined.scores.task_of_item).tolist()
    own = dict(zip(joined.scores.tasks, means, strict=True))
    rows = tuple(
        (
            task,
            f"{sizes[task]:,}",
            of_task(own[task], sizes[task]),
            *(words.signed(float(value)) for value in by_task.values[:, t]),
        )
        for t, task in enumerate(by_task.tasks)
    )
    caption = (
        f"Score of {joined.reference} by task, with Wilson’s 95% interval of its items, and the others’ scores minus it"
    )
    head = ("task", "items", joined.reference, *by_task.strategies)
    return shortened(Table("by-task", caption, head, rows, frozenset(range(1, len(head)))))


def _systems(joined: Joined) -> Table:
    rows = tuple(
        (
            system.name,
            system.form,
            system.source,
            words.listing(list(system.models), most_n=3) or "–",
            f"{len({task for task, _ in system.items}):,}",
            f"{joined.kept_n[system.name]:,}",
            str(len(joined.runs[system.name])),
        )
        for system in joined.systems
    )
    head = ("system", "files", "path", "model", "tasks", "items scored", "runs")
    return Table("systems", "What was read", head, rows, frozenset({4, 5, 6}))
