"""The janitor. As a cron of the project it runs again by itself, also behind a time in which the server was down."""

from reactor import cron_jobs, internal

crons = cron_jobs()
crons.interval("re-arm crons that were lost", internal.registry.rearm, hours=1)
