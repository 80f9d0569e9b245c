"""The parts of assets that use a loaded model: shards of a pool, training, scoring, and judged outputs."""
