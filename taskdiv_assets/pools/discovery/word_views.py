"""The view `words`: a unit row for each prompt, from the words and short phrases that it shares with other prompts.

The rows are TF-IDF weights of frequent 1-, 2- and 3-grams of words, reduced to `COMPONENTS_N` numbers by a truncated SVD (latent
semantic analysis: Deerwester et al., 1990). With at most `COMPONENTS_N` prompts or features, the weights are not reduced.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection.streams import stream_seed

Rows = NDArray[np.float32]  # (n, d), each of length 1, or 0 for a prompt that shares nothing with other prompts

COMPONENTS_N = 64
FEATURES_MAX = 50_000
FREQUENT_SHARE = 1 / 2_000  # a feature is kept if at least this share of the prompts, and at least two, contain it
HEAD_N, TAIL_N = 2_000, 1_000  # characters of a long prompt that are read, at its start and at its end
WORDS_MIN = 3  # a text with fewer words is also described by its characters
BLOCK_N = 20_000
GRID = 2.0**16  # rows are rounded to multiples of 1 / GRID, so that float64 sums of a million rows are exact
# Scripts that write no blanks between words. Each character of them counts as a word.
BLANKLESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = rf"(?V1){BLANKLESS}\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}_]--{BLANKLESS}]+"


def words_of(text: str) -> list[str]:
    """Return the words of a text, case-folded. In scripts without blanks, every character is a word.

    If the text has more than `HEAD_N + TAIL_N` characters, only the first `HEAD_N` and the last `TAIL_N` are read.

    >>> words_of("Reset MY password, please!"), words_of("重置密码 now")
    (['reset', 'my', 'password', 'please'], ['重', '置', '密', '码', 'now'])
    """
    found: list[str] = _pattern().findall(unicodedata.normalize("NFC", _shown(text).casefold()))
    return found


def phrases_of(text: str) -> list[str]:
    """Return the 1-, 2- and 3-grams of the words of a text.

    >>> phrases_of("reset my password")
    ['reset', 'my', 'password', 'reset my', 'my password', 'reset my password']
    """
    return list(_grams(words_of(text)))


def joined(words: Sequence[str]) -> str:
    """Return words as text, without blanks between characters of scripts that write none.

    >>> joined(["reset", "now"]), joined(["重", "置"])
    ('reset now', '重置')
    """
    import regex

    return str(regex.sub(rf"(?V1)(?<={BLANKLESS}\p{{M}}*) (?={BLANKLESS})", "", " ".join(words)))


def features_of(text: str) -> list[str]:
    r"""Return the phrases of a text. A text with fewer than `WORDS_MIN` words also gets the 1-, 2- and 3-grams of its characters.

    So texts of few words, of signs or of emoji can still be similar. A feature that consists of characters starts with a tab.

    >>> features_of("?!")
    ['\t?', '\t!', '\t? !']
    """
    words = words_of(text)
    signs = (
        [f"\t{one}" for one in _grams([c for c in _shown(text) if not c.isspace()])] if len(words) < WORDS_MIN else []
    )
    return [*_grams(words), *signs]


def words(prompts: Sequence[str], fitted_n: int) -> Rows:
    """Return the rows of the view `words`, (n, d). Vocabulary, weights and components come from the first `fitted_n` prompts."""
    found = _fitted_vectorizer(prompts[:fitted_n])
    if found is None:
        return np.zeros((len(prompts), 1), np.float32)
    vectorizer, weights = found
    reduce = _reducer(weights)
    blocks = [on_grid(reduce(weights))]
    for start in range(fitted_n, len(prompts), BLOCK_N):
        blocks.append(on_grid(reduce(vectorizer.transform(prompts[start : start + BLOCK_N]))))
    return np.concatenate(blocks)


def frequent_min(prompts_n: int) -> int:
    """Return the smallest number of prompts, out of `prompts_n`, that must contain a feature to include it in the vocabulary."""
    return max(2, int(prompts_n * FREQUENT_SHARE))


def on_grid(rows: NDArray[np.float64]) -> Rows:
    """Return rows scaled to length 1 and rounded to the grid; rows of zeros stay zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-9)
    rounded: Rows = (np.rint(unit * GRID) / GRID).astype(np.float32)
    return rounded


def _grams(words: Sequence[str]) -> Iterator[str]:
    yield from words
    for n in (2, 3):
        for start in range(len(words) - n + 1):
            yield " ".join(words[start : start + n])


def _shown(text: str) -> str:
    return text if len(text) <= HEAD_N + TAIL_N else f"{text[:HEAD_N]}\n{text[-TAIL_N:]}"


@cache
def _pattern() -> Any:
    import regex  # `re` knows neither scripts nor combining marks

    return regex.compile(_WORD)


def _fitted_vectorizer(texts: Sequence[str]) -> tuple[Any, Any] | None:
    """Return a TF-IDF vectorizer that is fitted on texts, and their sparse rows; None if the texts have no feature.

    If no feature is frequent, rare features are used.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    make = partial(TfidfVectorizer, analyzer=features_of, sublinear_tf=True, max_features=FEATURES_MAX)
    for least_n in (frequent_min(len(texts)), 1):
        vectorizer = make(min_df=least_n)
        try:
            return vectorizer, vectorizer.fit_transform(texts)
        except ValueError:  # no feature is left
            continue
    return None


def _reducer(weights: Any) -> Callable[[Any], NDArray[np.float64]]:
    """Return a function from sparse rows to dense rows of `COMPONENTS_N` numbers, fitted on the sparse rows `weights`.

    If `weights` has at most `COMPONENTS_N` rows or columns, the function keeps all columns.
    """
    if min(weights.shape) <= COMPONENTS_N:  # the SVD has no more components than rows or columns
        return lambda some: np.asarray(some.toarray(), np.float64)
    return components(weights)


def components(weights: Any) -> Callable[[Any], NDArray[np.float64]]:
    """Return a function from rows to rows of `COMPONENTS_N` numbers: a truncated SVD that is fitted on the rows `weights`."""
    from sklearn.decomposition import TruncatedSVD

    seed = stream_seed(0, "pool", "discovery", "svd") & 0xFFFFFFFF
    reduced: Callable[[Any], NDArray[np.float64]] = TruncatedSVD(COMPONENTS_N, random_state=seed).fit(weights).transform
    return reduced
