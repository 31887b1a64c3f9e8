"""Triggers: functions that run after each change of a document, inside the transaction that made it."""
