"""What all assets share: their declaration, cells and units, lineage and identities, pictures."""
