"""The `taskdiv init` command."""


def init() -> None:
    """Nothing."""
