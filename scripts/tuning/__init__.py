"""Phase 1: the search over hyperparameters."""
