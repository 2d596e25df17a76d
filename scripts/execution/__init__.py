"""Executors of training runs: this process, local worker processes or a Ray cluster."""
