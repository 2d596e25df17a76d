"""Training of one model: the resumable run, early stopping, optimisers and schedules."""
