"""Tasks by the user's rules: regular expressions or keywords. The first rule that matches a prompt gives its task.

A pattern may be slow on some texts. So only the start of a long prompt is searched, and the time is limited.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from taskdiv_assets.experiment.pool_settings import TaskRule
from taskdiv_assets.pools.discovery.word_views import BLANKLESS

SEARCHED_N = 10_000  # characters of a prompt, from its start
TEXT_LIMIT_S, LIMIT_S = 1.0, 600.0  # processor time of one rule on one prompt, and time of all rules on all prompts


def matched(prompts: Sequence[str], rules: Sequence[TaskRule]) -> list[int | None]:
    """Return for each prompt the position of the first rule that matches; None if no rule does.

    Raises:
        ValueError: a pattern takes too long on a prompt, or the rules take too long on the pool.
    """
    compiled = [_compiled(rule) for rule in rules]
    end = time.monotonic() + LIMIT_S
    found = []
    for number, prompt in enumerate(prompts, start=1):
        if time.monotonic() > end:
            raise ValueError(
                f"`task_labels`: the rules took {LIMIT_S:.0f} s for {number - 1:,} of {len(prompts):,} prompts; expected "
                "less for all of them; simplify the patterns, or use keywords"
            )
        text = prompt[:SEARCHED_N]
        found.append(next((i for i, one in enumerate(compiled) if _matches(one, text, rules[i])), None))
    return found


def _matches(compiled: Any, text: str, rule: TaskRule) -> bool:
    try:
        return compiled.search(text, timeout=TEXT_LIMIT_S) is not None
    except TimeoutError:
        raise ValueError(
            f"`task_labels`: the pattern {rule.pattern!r:.80} of task {rule.task!r} took more than {TEXT_LIMIT_S:g} s on the "
            f"prompt that starts {text[:40]!r}; expected a pattern without nested repetition such as (a+)+; simplify it, or use "
            "keywords"
        ) from None


def _compiled(rule: TaskRule) -> Any:
    import regex  # unlike `re`, it has a time limit

    if rule.pattern is not None:
        return regex.compile(rule.pattern, regex.IGNORECASE)
    either = "|".join(_keyword(word.strip()) for word in rule.keywords or ())
    return regex.compile(rf"(?V1)(?:{either})", regex.IGNORECASE)


def _keyword(word: str) -> str:
    """Return a pattern that matches a keyword (a word or a phrase) as whole words, with any white space between its words.

    A keyword with a character of a script without blanks (`BLANKLESS`) also matches if letters touch it on either side.
    """
    import regex

    inner = r"\s+".join(map(regex.escape, word.split()))
    before, after = (rf"(?<![\w--{BLANKLESS}])", rf"(?![\w--{BLANKLESS}])") if not _is_blankless(word) else ("", "")
    return f"{before}{inner}{after}"


def _is_blankless(word: str) -> bool:
    import regex

    return regex.search(BLANKLESS, word) is not None
