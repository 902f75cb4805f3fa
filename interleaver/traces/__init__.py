"""Runs as data: the run store, traces, and sources of traces."""
