"""Files and tables on any storage that fsspec supports: store, identities, locks, disk cache, retries."""
