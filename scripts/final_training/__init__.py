"""Phase 3: training on all development rows, and the final model."""
