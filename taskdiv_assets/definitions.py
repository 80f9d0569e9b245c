"""The code location that Dagster's UI loads. It has one asset group for each experiment that `code_location.shown` returns."""

from taskdiv_assets.orchestration import code_location, instance

for sentence in instance.warnings():
    code_location.warn(sentence)

defs = code_location.build()
