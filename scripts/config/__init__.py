"""The typed configuration: every key with its default and bounds, and its YAML."""
