"""Hyper: hybrid hyperparameter tuning for PyTorch classifiers on market data."""

__version__ = "0.1.0"
