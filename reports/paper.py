"""Sentences on the paper's published claims: what this run shows of each, or why it cannot test the claim."""

from reports import words
from reports.analysis import PLAIN, WEIGHTED, Section
from reports.results import Results

NOT_TESTABLE = "Not testable here"
PAPERS_SHARE = 0.2  # share of the full data that is enough by the paper's claim of 80% less


def paper_claims(results: Results, sections: tuple[Section, ...]) -> list[tuple[str, str]]:
    """Return the paper's published claims: pairs of a claim and a sentence on the result of this run."""
    setting = "on this base model and pool"
    if results.experiment.is_lab:
        setting = "on the lab's designed pool, which is not the paper's setting"
    less = _less_annotation(next((one for one in sections if one.full_pool is not None), None), setting)
    more = _more_mmlu([one for one in sections if one.scores.benchmark == "mmlu"], setting)
    return [
        ("Up to 80% less annotation than training on the full data.", less),
        ("4 points of MMLU over training on the full data.", more),
    ]


def _less_annotation(section: Section | None, setting: str) -> str:
    if section is None:
        return f"{NOT_TESTABLE}: no full-pool score is stored to compare with."
    if section.says_nothing:
        return f"{NOT_TESTABLE}. {section.says_nothing}"
    if section.full_pool_gain is None:
        return f"{NOT_TESTABLE}: the base is not scored, so whether the full pool gains anything is not known."
    if not section.full_pool_savings:
        return (
            f"{NOT_TESTABLE}: the full pool's gain over the base is not above 0 with its interval, "
            "so matching it has no meaning."
        )
    pool_n, largest_n = section.full_pool_n or 0, max(section.budgets)
    reached = {name: one.labels_n for name, one in section.full_pool_savings.items() if one.labels_n is not None}
    if reached:
        name = min(reached, key=lambda strategy: (reached[strategy], strategy))
        one, labels_n = section.full_pool_savings[name], reached[name]
        return (
            f"{name} matches the full pool of {pool_n:,} with {words.labels_needed(one)} labels, "
            f"{1 - labels_n / pool_n:.0%} less (95% set {words.savings_set(one)}), {setting}."
        )
    if largest_n < PAPERS_SHARE * pool_n:
        return (
            f"{NOT_TESTABLE}: 80% less would be {PAPERS_SHARE * pool_n:,.0f} labels, and the budgets end at {largest_n:,} "
            f"({largest_n / pool_n:.1%} of the pool); no strategy's mean reaches the full pool's score there."
        )
    return f"No strategy's mean reaches the full pool's score within {largest_n:,} of {pool_n:,} labels, {setting}."


def _more_mmlu(sections: list[Section], setting: str) -> str:
    if not sections:
        return f"{NOT_TESTABLE}: MMLU is not among the benchmarks scored."
    if all(section.says_nothing for section in sections):
        return f"{NOT_TESTABLE}. {sections[0].says_nothing}"
    found = [one for section in sections if not section.says_nothing for one in section.against_full_pool]
    if not found:
        return f"{NOT_TESTABLE}: no full-pool score is stored."
    names = {one.strategy: one for one in found}
    one = names.get(WEIGHTED) or names.get(PLAIN) or found[0]
    return (
        f"{one.strategy} at {one.budgets[0]:,} labels scores {words.signed(one.difference.estimate)} against the full pool "
        f"on MMLU ({words.interval_of_difference(one.difference)}; {words.basis(one.difference)}): {one.verdict}, {setting}."
    )
