"""Data: reading and checking files, features, labels, splits and data sets."""
