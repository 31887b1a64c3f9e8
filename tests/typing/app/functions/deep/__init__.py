"""A folder of functions."""
