"""The connection to Dagster, such as definitions, engines and instance. No other package imports private parts of Dagster."""
