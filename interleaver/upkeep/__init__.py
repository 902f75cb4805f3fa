"""Keeping a run store in order: what may be deleted, and what is damaged."""
