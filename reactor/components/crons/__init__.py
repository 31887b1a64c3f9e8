"""Crons that are registered while the application runs: by its users, say, each for their own.

What is known when the project is written belongs into `functions/crons.py`, with `reactor.cron_jobs`.

See `docs/components/crons.md`.
"""

from reactor import define_component
from reactor.components.crons.client import CronInfo, Crons, cron, interval

component = define_component(__name__)

__all__ = ["CronInfo", "Crons", "component", "cron", "interval"]
