"""How far annotators agree where two or more of them answered the same prompt. All functions are pure.

Answers are compared after Unicode normalisation (NFC), in lower case, with every run of white space as one blank. A prompt is
*short* if each of its answers has at most SHORT_N characters then. On short prompts, agreement is the share of pairs of people
with equal answers, and Krippendorff's alpha for nominal data, which subtracts the agreement by chance. On the others it is chrF,
the mean of both directions. Intervals are percentiles of a bootstrap over prompts with a fixed seed.

Source of alpha: K. Krippendorff, Content Analysis, 2nd edition (2004), chapter 11; alpha below 0.667 is the limit that the book
gives for tentative conclusions. The tests compare ours with the package `krippendorff`. We do not call that package, because it
builds an array of prompts × answers × answers: 53 GiB for 2,000 prompts.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

SHORT_N = 40  # characters: a label, a number, a few words
ALPHA_LOW = 0.667
WARN_FROM_N = 20  # with fewer prompts, alpha varies too much for a warning
INTERVAL_FROM_N = 10  # with fewer prompts, the bootstrap draws from too few
DRAWS_N = 1_000
SEED = 20_250_728
Similarity = Callable[[str, str], float]


class Value(NamedTuple):
    """An estimate with its 95% interval. NaN means: cannot be estimated."""

    estimate: float
    low: float = math.nan
    high: float = math.nan


class Agreement(NamedTuple):
    """Agreement on one group of prompts."""

    short_n: int  # short prompts that two or more people answered
    equal: Value  # share of pairs of people with equal answers, mean over short prompts
    alpha: Value  # of short prompts, at most 1; 0 is agreement by chance
    long_n: int  # other prompts that two or more people answered
    chrf: Value  # 0..1, mean over these prompts


def comparable(text: str) -> str:
    """Return an answer in the form that is compared.

    >>> comparable(" Yes,\\n it  is ")
    'yes, it is'
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def agreement(answers: Iterable[Mapping[str, str]]) -> Agreement:
    """Return the agreement on prompts. Each mapping has one prompt's answers by annotator; those with one answer are left out."""
    compared = [[comparable(text) for text in by_person.values()] for by_person in answers if len(by_person) > 1]
    short = [texts for texts in compared if max(map(len, texts)) <= SHORT_N]
    long = [texts for texts in compared if max(map(len, texts)) > SHORT_N]
    equal = _interval(np.array([_mean_of_pairs(texts, lambda a, b: float(a == b)) for texts in short]))
    chrf = _interval(np.array([_mean_of_pairs(texts, _chrf()) for texts in long]) if long else np.zeros(0))
    return Agreement(len(short), equal, _alpha(short), len(long), chrf)


def by_group(answers: Mapping[str, Mapping[str, str]], groups: Mapping[str, str]) -> dict[str, Agreement]:
    """Return the agreement of each group of prompts, sorted by name. `groups` maps prompt ids to groups; others are left out."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for prompt_id, by_person in answers.items():
        if len(by_person) > 1 and prompt_id in groups:
            found.setdefault(groups[prompt_id], []).append(by_person)
    return {name: agreement(found[name]) for name in sorted(found)}


def by_pair(answers: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], Agreement]:
    """Return the agreement of each pair of annotators on the prompts that both answered, sorted by name."""
    found: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for by_person in answers.values():
        for pair in combinations(sorted(by_person), 2):
            found.setdefault(pair, []).append({name: by_person[name] for name in pair})
    return {pair: agreement(found[pair]) for pair in sorted(found)}


def is_low(found: Agreement) -> bool:
    """Return True if short answers agree too little: alpha below ALPHA_LOW on at least WARN_FROM_N prompts."""
    return found.short_n >= WARN_FROM_N and found.alpha.estimate < ALPHA_LOW


def nominal_alpha(units: Sequence[Sequence[str]]) -> float:
    """Return Krippendorff's alpha for nominal data. Each unit has the values of two or more people.

    Return NaN if there is no unit, or if all values are equal: there is no chance to compare with.
    """
    return float(_alphas(units, np.ones((1, len(units))))[0]) if units else math.nan


def _alpha(short: Sequence[Sequence[str]]) -> Value:
    estimate = nominal_alpha(short)
    if len(short) < INTERVAL_FROM_N or math.isnan(estimate):
        return Value(estimate)
    draws = _alphas(short, _weights(len(short)))
    draws = draws[np.isfinite(draws)]  # a draw in which all values are equal has no alpha
    return Value(estimate, *np.percentile(draws, [2.5, 97.5]).tolist())


def _alphas(
    units: Sequence[Sequence[str]],
    weights: np.ndarray,  # (draws, units): how often each draw has a unit
) -> np.ndarray:  # (draws,)
    """Return alpha of each draw: 1 − observed / expected disagreement, from counts of values within and over units."""
    sizes = np.array([len(values) for values in units])
    _, codes = np.unique([value for values in units for value in values], return_inverse=True)
    unit_of = np.repeat(np.arange(len(units)), sizes)
    pairs, counts = np.unique(np.stack([unit_of, codes]), axis=1, return_counts=True)
    equal = np.bincount(
        pairs[0], counts * (counts - 1), minlength=len(units)
    )  # ordered pairs of equal values in a unit
    disagreement = (sizes * (sizes - 1) - equal) / (sizes - 1)
    total = weights @ sizes
    squares = np.array(
        [np.square(np.bincount(codes, one[unit_of])).sum() for one in weights]
    )  # of the counts of values
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (total**2 - squares) / (total - 1)
        alphas: np.ndarray = np.where(expected > 0, 1 - (weights @ disagreement) / expected, np.nan)
    return alphas


def _interval(values: np.ndarray) -> Value:
    """Return the mean of values of prompts, with the percentiles of bootstrap means if there are enough prompts."""
    if not len(values):
        return Value(math.nan)
    if len(values) < INTERVAL_FROM_N:
        return Value(float(values.mean()))
    draws = _weights(len(values)) @ values / len(values)
    return Value(float(values.mean()), *np.percentile(draws, [2.5, 97.5]).tolist())


def _weights(units_n: int) -> np.ndarray:  # (DRAWS_N, units_n)
    """Return how often each draw of a bootstrap has each unit."""
    generator = np.random.default_rng(SEED)
    return generator.multinomial(units_n, np.full(units_n, 1 / units_n), size=DRAWS_N).astype(np.float64)


def _mean_of_pairs(texts: Sequence[str], similarity: Similarity) -> float:
    values = [similarity(a, b) for a, b in combinations(texts, 2)]
    return sum(values) / len(values)


def _chrf() -> Similarity:
    """Return chrF of two texts in 0..1 (sacrebleu's sentence chrF2 / 100), as the mean of both directions."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()

    def both(a: str, b: str) -> float:
        return float(metric.sentence_score(a, [b]).score + metric.sentence_score(b, [a]).score) / 200

    return both
