"""Runs as data: where pictures and finished runs are kept."""
