"""Get the verdicts of a judge, and keep them in the store as parts (see `storage.parts`) under `verdicts/<judge>/`.

A pair of outputs with a final verdict is not sent to the judge again. The endpoint's address and its key are never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from taskdiv_assets.benchmarks.alpaca.identities import FOLDER, judge_folder
from taskdiv_assets.benchmarks.alpaca.judge import ask_all, open_endpoint
from taskdiv_assets.benchmarks.alpaca.prompts import Pair
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict, from_table, is_final, is_tie, key_of, to_table
from taskdiv_assets.experiment.benchmark_settings import Judge
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage import locks
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.storage.parts import Parts
from taskdiv_assets.storage.store import Store

# Largest share of failed pairs. If more fail, the endpoint is the likely cause, and the run ends with an error.
FAILED_AT_MOST = 0.05


class Known(NamedTuple):
    """The known verdicts of a judge, and the number of requests for them."""

    verdicts: dict[str, Verdict]  # by the pair's key; a final verdict replaces a failed one
    calls_n: int  # requests that were sent, answered or not


def endpoint() -> tuple[str, str]:
    """Return the address and the key of the judge from the environment; raise ValueError if the address is missing."""
    found = machine()
    if not found.judge_url:
        raise ValueError(
            "a judge is named for `alpaca_eval`, but $TASKDIV_JUDGE_URL is not set; set it to an OpenAI-compatible "
            "address such as https://host/v1, and $TASKDIV_JUDGE_KEY to its key; or remove `judge`, and the benchmark is left out"
        )
    return found.judge_url, found.judge_key.get_secret_value()


def check_endpoint(judge: Judge) -> str:
    """Check the settings of the judge's endpoint without a request. Return the part of its address that error messages contain.

    Raises:
        ValueError: the address is missing or invalid, the key is invalid, or the client library is not installed.
    """
    url, key = endpoint()
    client = open_endpoint(judge, url, key, timeout_s=1.0)
    client.close()
    return client.place


def known_verdicts(store: Store, judge: Judge) -> Known:
    """Return the verdicts of a judge in the experiment's store, one per pair; raise ValueError if a part is damaged."""
    found: dict[str, Verdict] = {}
    calls_n = 0
    for table in Parts(store, FOLDER, judge_folder(judge)).read(_refuse):
        for verdict in from_table(table):
            calls_n += verdict.calls_n
            if verdict.key not in found or is_final(verdict):
                found[verdict.key] = verdict
    return Known(found, calls_n)


def put_verdicts(store: Store, judge: Judge, verdicts: Sequence[Verdict]) -> None:
    Parts(store, FOLDER, judge_folder(judge)).put(to_table(verdicts))


def _refuse(where: str) -> None:
    raise ValueError(f"{where} is not a whole Parquet file; move it away, and its verdicts are asked for again")


def verdicts_on(work: Work, judge: Judge, compared: Mapping[str, Sequence[Pair]]) -> dict[str, list[Verdict]]:
    """Return a verdict on each pair: known verdicts from the store, and the others from the judge.

    The keys of `compared` are the files of the models' outputs. Error messages list the files that an external annotator must
    still annotate. Up to the share FAILED_AT_MOST of the pairs may get a failed verdict.

    Raises:
        ValueError: imported verdicts are missing, `calls` is too small, or the endpoint is not set or gives too few answers.
            Verdicts that came before the error are stored.
    """
    pairs = [pair for some in compared.values() for pair in some]
    with locks.hold(work.store, judge_folder(judge), on_wait=work.wait):
        known = known_verdicts(work.store, judge)
        found = dict(known.verdicts)
        missing = [pair for pair in pairs if not _is_answered(pair, found)]
        if missing and judge.annotator is not None:
            files = [where for where, some in compared.items() if not all(_is_answered(pair, found) for pair in some)]
            raise ValueError(
                f"{len(missing)} of {len(pairs)} outputs have no verdict of annotator {judge.annotator!r}; have "
                f"{', '.join(files)} annotated by the package alpaca-eval, then `taskdiv verdicts import "
                f"{work.experiment.name} annotations.json`"
            )
        if missing:
            found |= {verdict.key: verdict for verdict in _ask(work, judge, missing, known.calls_n)}
    verdicts = {where: [found[key_of(pair)] for pair in some] for where, some in compared.items()}
    failed = [verdict for some in verdicts.values() for verdict in some if not is_final(verdict)]
    if len(failed) > FAILED_AT_MOST * len(pairs):
        raise ValueError(
            f"the judge {judge.model!r} gave no answer on {len(failed)} of {len(pairs)} outputs (the last time: "
            f"{failed[-1].detail}); run again, which asks for these alone"
        )
    return verdicts


def _is_answered(pair: Pair, found: Mapping[str, Verdict]) -> bool:
    verdict = found.get(key_of(pair))
    return verdict is not None and is_final(verdict)


def _ask(work: Work, judge: Judge, pairs: Sequence[Pair], spent_n: int) -> list[Verdict]:
    needed_n = len({key_of(pair) for pair in pairs if not is_tie(pair)})
    left_n = (judge.calls or 0) - spent_n
    if needed_n > left_n:
        raise ValueError(
            f"the judge {judge.model!r} would be asked {needed_n} times, but {max(left_n, 0)} of its {judge.calls} `calls` "
            f"are left; raise `calls` of benchmark `alpaca_eval` to {spent_n + needed_n} at least (`taskdiv plan` counts)"
        )
    url, key = endpoint()
    report = work.progress(f"judging by {judge.model}", "outputs")
    used_n = 0

    def keep(verdicts: Sequence[Verdict]) -> None:
        nonlocal used_n
        put_verdicts(work.store, judge, verdicts)
        used_n += sum(verdict.calls_n for verdict in verdicts)

    def progress(done_n: int, all_n: int) -> None:
        report(done_n, all_n)
        if used_n >= left_n and done_n < all_n:  # retries count too
            raise ValueError(
                f"the judge {judge.model!r} used up its {judge.calls} `calls` with {all_n - done_n} outputs still open, since "
                "calls had to be repeated; raise `calls` of benchmark `alpaca_eval`, verdicts so far are kept"
            )

    place = check_endpoint(judge)
    try:
        return ask_all(judge, pairs, url=url, key=key, keep=keep, progress=progress)
    except ValueError as error:  # Dagster records the message, which must not contain the address
        raise ValueError(str(error).replace(place, "$TASKDIV_JUDGE_URL")) from None
