"""Leak check of the user's own data, features and models."""
