"""Stored files: their documents, their content, and what functions see of both."""
