"""Several starts of one command on one run directory: the first decides, the others train for it."""
