"""Code that all assets share, such as declarations, cells and units, lineage and identities, and pictures."""
