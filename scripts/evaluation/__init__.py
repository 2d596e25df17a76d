"""Evaluation of a final model on the sealed rows: scores, references, warnings and leak checks."""
