"""From files to the data set of a run: labels, features, splits and the sealed test set."""
