"""Checks that find information from the future in data, features and models."""
