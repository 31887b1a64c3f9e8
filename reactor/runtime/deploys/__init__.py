"""Deploys of projects to a running server: what one would change, and which were made."""
