"""Benchmarks: what a system draws for their requests, what judges say of it, and tables to compare."""
