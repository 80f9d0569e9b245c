"""The Dagster layer: one module per stage, in the order data flows, and one factory that makes assets of them."""
