"""Storage for the files, pictures, locks and checkpoints of runs: folders on any fsspec URL, or PostgreSQL."""
