"""One resumable training run."""
