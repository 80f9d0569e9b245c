"""What stands in the UI for an experiment file that cannot be used: one asset that says what is wrong with it."""

from __future__ import annotations

import hashlib
import re

import dagster as dg

from taskdiv_assets import experiment_file

ASSET = "experiment_file"


def build(name: str, source: str, problem: str) -> dg.Definitions:
    """A group of one asset, red and with the mistakes in its description; to materialise it reads the file again.

    Args:
        name: of the experiment, or of its folder.
        source: where the file is, as `experiment_file.read_text` takes it.
        problem: what is wrong with it.
    """
    group = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if group != name:  # two names may become one
        group += f"_{hashlib.sha256(name.encode()).hexdigest()[:6]}"

    @dg.asset(
        key=dg.AssetKey([group, ASSET]),
        group_name=group,
        description=f"**This experiment is not loaded.** {ADVICE}\n\n```\n{problem.replace('```', '')}\n```",
        kinds={"yaml"},
        tags={"broken": ""},
        metadata={"file": dg.MetadataValue.path(source)},
    )
    def report_problem() -> dg.MaterializeResult[None]:
        try:
            experiment_file.load(source)
        except ValueError as error:
            raise dg.Failure(description=f"{error}\n{ADVICE}", allow_retries=False) from error
        return dg.MaterializeResult(
            metadata={
                "what to do": "The file is well now: reload the definitions (Deployment → Code locations → Reload)."
            }
        )

    return dg.Definitions(assets=[report_problem])


ADVICE = "Repair the file, then reload the definitions (Deployment → Code locations → Reload)."
