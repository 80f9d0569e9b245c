"""The connection of the assets to Dagster: definitions, engines, instance. No other package imports private parts of Dagster."""
