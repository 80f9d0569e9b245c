"""Files and tables on any fsspec storage: the store, identities, locks, the disk cache, retries."""
