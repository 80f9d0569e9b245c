"""Dagster: definitions of an experiment, engines, the instance, launching. Its private parts are used here alone."""
