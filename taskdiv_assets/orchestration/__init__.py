"""The connection to Dagster: definitions, engines, instance, run launcher. No other package imports private parts of Dagster."""
