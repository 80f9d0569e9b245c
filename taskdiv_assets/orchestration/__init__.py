"""Connect the assets to Dagster: definitions, engines, instance and so on. No other package imports private parts of Dagster."""
