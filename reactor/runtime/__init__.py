"""Runs user functions against the engine."""
