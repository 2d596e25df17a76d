"""Metrics, statistics, simulated returns and baselines on arrays."""
