"""Work of the assets that holds a model: shards of a pool, training, scoring, outputs that are judged."""
