"""Storage that survives a kill: artifacts, checkpoints, the study's database and the run directory."""
