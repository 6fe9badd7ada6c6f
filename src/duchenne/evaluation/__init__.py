"""Metrics with intervals, tests between runs, explanations of networks, and maps of features."""
