"""Serving planners, critics and image generators, on one machine or many."""
