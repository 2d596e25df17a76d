"""Commands: arguments, the lock of the run directory, messages, and one module for each command."""
