"""A replacement for an experiment that cannot be loaded: one asset that shows the error in the UI."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import dagster as dg

ASSET = "experiment_file"
RELOAD = "reload the definitions (Deployment → Code locations → Reload)"
ADVICE = f"Repair it, then {RELOAD}."


def build(name: str, load: Callable[[], object], problem: str) -> dg.Definitions:
    """Return a group with one asset whose description contains the error message `problem`.

    When a user materialises the asset, it calls `load`, the function that failed.
    """
    group = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if group != name:  # the hash keeps two names apart that would become the same group name
        group += f"_{hashlib.sha256(name.encode()).hexdigest()[:6]}"

    @dg.asset(
        key=dg.AssetKey([group, ASSET]),
        group_name=group,
        description=f"**This experiment is not loaded.** {ADVICE}\n\n```\n{problem.replace('```', '')}\n```",
        kinds={"yaml"},
        tags={"broken": ""},
    )
    def report_problem() -> dg.MaterializeResult[None]:
        try:
            load()
        except Exception as error:  # any error becomes the message of the failed step
            raise dg.Failure(description=f"{error}\n{ADVICE}", allow_retries=False) from error
        return dg.MaterializeResult(metadata={"what to do": f"The file can be used now: {RELOAD}."})

    return dg.Definitions(assets=[report_problem])
