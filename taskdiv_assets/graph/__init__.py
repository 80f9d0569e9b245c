"""Code that all assets share: declarations, cells and units, lineage and identities, pictures."""
