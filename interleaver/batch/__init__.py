"""Batches of runs: from a prompt list to a store of traces."""
