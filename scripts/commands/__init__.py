"""What a person types: arguments, the lock of the run directory, messages, and one function for each command."""
