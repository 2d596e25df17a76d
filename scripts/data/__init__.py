"""Data: reading, checking, features, labels, splits and the data sets made of them."""
