"""Run directories on object storage."""
