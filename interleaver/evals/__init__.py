"""Benchmarks: generate outputs, have them scored by a judge, and compare the results with published tables."""
