"""Metrics with intervals, tests between runs, and maps of features."""
