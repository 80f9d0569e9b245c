"""The run launcher under the name that the `dagster.yaml` of users' homes gives it."""

from taskdiv_assets.orchestration.run_launcher import WatchedRunLauncher

__all__ = ["WatchedRunLauncher"]
