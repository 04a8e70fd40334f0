"""Plain values: models, sweeps, units of work, fingerprints, plans."""
