"""Checks of the experiment files, and of the judge that some of them name.

If a file has several mistakes, the finding contains the first one. `taskdiv plan` lists up to 50 mistakes.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import partial
from typing import NamedTuple

from taskdiv_assets.commands.doctor.findings import Finding, reason, within
from taskdiv_assets.commands.doctor.storage import STORE_TIMEOUT_S
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark


class ReadExperiments(NamedTuple):
    """The experiments whose files are valid, and the findings about all files."""

    experiments: tuple[Experiment, ...]
    findings: tuple[Finding, ...]


def read_experiments(url: str) -> ReadExperiments:
    """Read the built-in experiments, and the experiments in the store at `url` unless `url` is empty."""
    read: list[Experiment] = []
    findings: list[Finding] = []
    files = {name: name for name in experiment_file.built_in_names()}
    try:
        files = within(STORE_TIMEOUT_S, lambda: experiment_file.sources(url)) if url else files
    except Exception as error:  # the protocol's library may raise anything
        found = f"those in {url} cannot be listed: {reason(error)}"
        findings.append(Finding("broken", "experiments", found, "run it again"))
    for name, source in files.items():
        try:
            read.append(within(STORE_TIMEOUT_S, partial(experiment_file.load, source)))
        except Exception as error:  # a mistake in the file, or an error of the protocol's library
            said = [line.strip() for line in str(error).splitlines()]
            found = f"{name} cannot be used: {said[1] if len(said) > 1 else reason(error)}"
            advice = f"correct it; `taskdiv plan {name}` lists every mistake"
            findings.append(Finding("broken", "experiments", found, advice))
    names = ", ".join(experiment.name for experiment in read)
    return ReadExperiments(tuple(read), (Finding("well", "experiments", f"can be used: {names}"), *findings))


def judge(experiments: Iterable[Experiment], url: str, key: str) -> Finding:
    """Check `url` and `key` of the endpoint for the experiments' judge models. No request is sent: an answer may cost money."""
    from taskdiv_assets.chat.endpoint import Endpoint

    asked = {
        experiment.name: benchmark.judge.model
        for experiment in experiments
        for benchmark in experiment.benchmarks
        if isinstance(benchmark, AlpacaEvalBenchmark) and benchmark.judge is not None and benchmark.judge.model
    }
    if not asked:
        return Finding("well", "judge", "no experiment uses one")
    names = ", ".join(f"{model} for {name}" for name, model in asked.items())
    try:
        with closing(Endpoint(next(iter(asked.values())), url=url, key=key, timeout_s=1, max_tokens=1)) as endpoint:
            found = f"{names} at {endpoint.place}"
    except ValueError as error:
        return Finding("look", "judge", f"{names}: {error}", "or leave the benchmark out")
    if key:
        return Finding("well", "judge", f"{found}, with a key")
    return Finding("look", "judge", f"{found}, without a key", "set $TASKDIV_JUDGE_KEY if the endpoint asks for one")
