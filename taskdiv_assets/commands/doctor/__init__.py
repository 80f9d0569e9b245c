"""`taskdiv doctor`: is this machine set up for experiments? Each check looks at one thing and says what is so.

In: what to look at, as arguments. Out: findings, a sentence each, and what to do where something is not well. A check raises
nothing for what it looks at: that it cannot be looked at is its finding. What is stored is checked by `contracts check`.

Here: the order of checks, how findings are printed, and that none shows a secret. The checks: `installation`, `dagster_setup`,
`storage`, `experiments`, `models`; what they share is in `findings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taskdiv_assets.commands.doctor.dagster_setup import dagster_home, hidden_workspace, pool_limits, threads
from taskdiv_assets.commands.doctor.experiment_checks import judge, read_experiments
from taskdiv_assets.commands.doctor.findings import Finding, Level
from taskdiv_assets.commands.doctor.installation import of_package, packages, strategy_plugins
from taskdiv_assets.commands.doctor.model_checks import TorchBuild, four_bits, graphics, hub, torch_build
from taskdiv_assets.commands.doctor.storage import local_storage, remote_storage
from taskdiv_assets.experiment import plugins
from taskdiv_assets.orchestration import instance
from taskdiv_assets.storage.store import home

__all__ = ["examine", "print_findings"]

STYLES: Mapping[Level, str] = {"well": "green", "look": "yellow", "broken": "bold red"}
SECRET_NAME = re.compile(r"(?i)(^|_)(KEY|SECRET|TOKEN|PASSWORD|PASSWD|CONNECTION_STRING)(_(?!FILE$|PATH$)|$)")


def examine(environ: Mapping[str, str], *, is_offline: bool = False) -> Iterator[Finding]:
    """Look at everything, what is quick first, and say each finding as soon as it is known, without any secret."""
    secrets = secrets_of(environ)
    for finding in _examine(environ, is_offline):
        yield finding._replace(found=redacted(finding.found, secrets), advice=redacted(finding.advice, secrets))


def _examine(environ: Mapping[str, str], is_offline: bool) -> Iterator[Finding]:
    project = of_package(metadata.metadata, "taskdiv-assets")
    python = project["Requires-Python"] if project else ""
    yield from packages(python, of_package(metadata.requires, "taskdiv-assets"))
    yield from strategy_plugins(plugins.installed())
    yield threads(environ.get("OMP_NUM_THREADS", ""), os.cpu_count() or 1)
    folder = instance.home_folder()
    yield from dagster_home(folder, environ.get("DAGSTER_HOME", ""), instance.settings_text())
    yield from hidden_workspace(Path.cwd())
    url = home()
    is_local = "://" not in url or url.startswith(("file://", "local://"))
    findings = [*(local_storage(url) if is_local else remote_storage(url, is_offline=is_offline))]
    yield from findings
    read = read_experiments(url if is_local or findings[0].level == "well" else "")
    yield from read.findings
    yield judge(read.experiments, environ.get("TASKDIV_JUDGE_URL", ""), environ.get("TASKDIV_JUDGE_KEY", ""))
    build = torch_build()
    if isinstance(build, TorchBuild):
        yield from graphics(build, len(list(Path("/dev").glob("nvidia[0-9]*"))), instance.gpus_n())
        yield from four_bits(read.experiments, build.cards)
    else:
        yield build
    yield from pool_limits(folder, instance.slots())
    if not is_offline:
        yield from hub(read.experiments)


def print_findings(out: Console, findings: Iterable[Finding]) -> int:
    """Print each finding as it comes, and a last line that counts them; returns how many are broken."""
    counts = dict.fromkeys(STYLES, 0)
    for level, what, found, advice in findings:
        counts[level] += 1
        text = f"[bold]{what}:[/] {escape(found)}" + (f"; {escape(advice)}" if advice else "")
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=6)
        grid.add_column(overflow="fold")
        grid.add_row(f"[{STYLES[level]}]{level}[/]", text)
        out.print(grid if out.is_terminal else f"{level:6} {text}", soft_wrap=not out.is_terminal)
    out.print(f"{counts['broken'] or 'nothing'} broken, {counts['look'] or 'nothing'} to look at")
    return counts["broken"]


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """Values of variables such as …_KEY and …_TOKEN, the longest first; what has three letters is no secret."""
    values = {part for name, value in environ.items() if SECRET_NAME.search(name) for part in value.split()}
    return sorted((value for value in values if len(value) > 3), key=lambda value: (-len(value), value))


def redacted(text: str, secrets: Sequence[str]) -> str:
    """A text without secrets, and without what stands before @ or after ? in an address.

    >>> redacted("sftp://me:pass@host/x refused abcd1234", ["abcd1234"])
    'sftp://***@host/x refused ***'
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    return re.sub(r"(://[^\s?]*)\?\S+", r"\1?***", re.sub(r"://\S*@", "://***@", text))
