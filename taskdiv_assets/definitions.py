"""The code location that Dagster loads: one asset group for each experiment, the demos and those in `$TASKDIV_HOME`."""

from taskdiv_assets.orchestration import code_location, instance

for sentence in instance.warnings():
    code_location.warn(sentence)

defs = code_location.build()
