"""Metrics, tests, intervals and simulated returns of plain arrays."""
