"""Judging a final model on rows that it has not seen: figures, their uncertainty, and what to make of them."""
