"""Helpers for functions: relationships, streams, sessions, CORS, validators; written with the public API only."""
