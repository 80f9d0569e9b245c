"""What every asset shares: stages, cells and units, lineage and its identities, progress, pictures."""
