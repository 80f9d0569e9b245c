"""The run launcher, importable under the module name that the users' `dagster.yaml` files contain."""

from taskdiv_assets.orchestration.run_launcher import WatchedRunLauncher

__all__ = ["WatchedRunLauncher"]
