"""The HTTP API and the pages around it."""
