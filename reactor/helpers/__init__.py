"""Helpers for functions: relationships, streams of documents, sessions, CORS; written with the public API only."""
