"""`taskdiv doctor`: check whether this machine is set up for experiments. `taskdiv contracts check` checks stored results.

A check yields findings: one sentence each, with advice if something is wrong. A failed check is a finding too, not an exception.
This module runs the checks of the other modules in order, prints findings and settings, and removes secrets from every text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taskdiv_assets.commands.doctor.dagster_setup import dagster_home, hidden_workspace, pool_limits, threads
from taskdiv_assets.commands.doctor.experiment_checks import judge, read_experiments
from taskdiv_assets.commands.doctor.findings import Finding, Level
from taskdiv_assets.commands.doctor.installation import of_package, packages, strategy_plugins
from taskdiv_assets.commands.doctor.model_checks import TorchBuild, embedders, four_bits, graphics, hub, torch_build
from taskdiv_assets.commands.doctor.storage import local_storage, remote_storage
from taskdiv_assets.experiment import plugins
from taskdiv_assets.orchestration import instance
from taskdiv_assets.storage import machine as settings
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import home

__all__ = ["examine", "print_findings", "print_settings"]

STYLES: Mapping[Level, str] = {"well": "green", "look": "yellow", "broken": "bold red"}
SECRET_NAME = re.compile(r"(?i)(^|_)(KEY|SECRET|TOKEN|PASSWORD|PASSWD|CONNECTION_STRING)(_(?!FILE$|PATH$)|$)")


def examine(environ: Mapping[str, str], *, is_offline: bool = False) -> Iterator[Finding]:
    """Yield the findings of every check, without secrets. Quick checks come first.

    An invalid variable in `environ` is a finding, and the checks use its default value. If `is_offline` is True, no request is
    sent to the hub or to a remote store.
    """
    secrets, found = secrets_of(environ), settings.listed(environ)
    problems = {setting.name: setting.problem for setting in found if setting.problem}
    set_here = {setting.name: setting.value for setting in found if setting.is_set}
    given = {name: os.environ.pop(name) for name in problems if name in os.environ}
    try:
        for finding in chain(environment(problems.values()), _examine(set_here, is_offline)):
            yield finding._replace(found=redacted(finding.found, secrets), advice=redacted(finding.advice, secrets))
    finally:
        os.environ.update(given)


def environment(problems: Collection[str]) -> Iterator[Finding]:
    """Yield a finding for each message in `problems` about an invalid variable; one of level `well` if `problems` is empty."""
    for problem in problems:
        yield Finding("broken", "environment", problem, "correct or unset it; the checks below use its default")
    if not problems:
        yield Finding("well", "environment", "every variable that is set can be used")


def _examine(set_here: Mapping[str, str], is_offline: bool) -> Iterator[Finding]:
    project = of_package(metadata.metadata, "taskdiv-assets")
    python = project["Requires-Python"] if project else ""
    yield from packages(python, of_package(metadata.requires, "taskdiv-assets"))
    yield from strategy_plugins(plugins.installed())
    yield threads(set_here.get("OMP_NUM_THREADS", ""), os.cpu_count() or 1)
    folder = instance.home_folder()
    yield from dagster_home(folder, set_here.get("DAGSTER_HOME", ""), instance.settings_text())
    yield from hidden_workspace(Path.cwd())
    url = home()
    is_local = not remote.is_remote(url)
    findings = [*(local_storage(url) if is_local else remote_storage(url, is_offline=is_offline))]
    yield from findings
    read = read_experiments(url if is_local or findings[0].level == "well" else "")
    yield from read.findings
    machine = settings.machine()
    yield judge(read.experiments, machine.judge_url, machine.judge_key.get_secret_value())
    build = torch_build()
    if isinstance(build, TorchBuild):
        yield from graphics(build, len(list(Path("/dev").glob("nvidia[0-9]*"))), instance.gpus_n())
        yield from four_bits(read.experiments, build.cards)
    else:
        yield build
    yield from embedders(read.experiments)
    yield from pool_limits(folder, instance.slots())
    if not is_offline:
        yield from hub(read.experiments)


def print_settings(out: Console, environ: Mapping[str, str]) -> None:
    """Print every environment variable that the project reads: whether it is set, its value (unless secret), and its purpose."""
    secrets = secrets_of(environ)
    for setting in settings.listed(environ):
        mark, style = ("set    ", "cyan") if setting.is_set else ("default", "dim")
        _print_row(out, style, mark, setting.name, redacted(setting.value, secrets), setting.purpose)


def print_findings(out: Console, findings: Iterable[Finding]) -> int:
    """Print each finding when it arrives, then a line with counts. Return the number of findings of level `broken`."""
    counts = dict.fromkeys(STYLES, 0)
    for level, what, found, advice in findings:
        counts[level] += 1
        _print_row(out, STYLES[level], level, what, found, advice)
    out.print(f"{counts['broken'] or 'nothing'} broken, {counts['look'] or 'nothing'} to look at")
    return counts["broken"]


def _print_row(out: Console, style: str, mark: str, what: str, found: str, also: str) -> None:
    width = max(6, len(mark))
    text = f"[bold]{what}:[/] {escape(found)}" + (f"; {escape(also)}" if also else "")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=width)
    grid.add_column(overflow="fold")
    grid.add_row(f"[{style}]{mark}[/]", text)
    out.print(grid if out.is_terminal else f"{mark:{width}} {text}", soft_wrap=not out.is_terminal)


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """Return the secrets, the longest first: all words of more than 3 characters in the values of variables such as …_KEY."""
    values = {part for name, value in environ.items() if SECRET_NAME.search(name) for part in value.split()}
    return sorted((value for value in values if len(value) > 3), key=lambda value: (-len(value), value))


def redacted(text: str, secrets: Sequence[str]) -> str:
    """Replace secrets in a text by ***. In an address, the part between :// and @ and the part after ? are replaced too.

    >>> redacted("sftp://me:pass@host/x refused abcd1234", ["abcd1234"])
    'sftp://***@host/x refused ***'
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    return re.sub(r"(://[^\s?]*)\?\S+", r"\1?***", re.sub(r"://\S*@", "://***@", text))
