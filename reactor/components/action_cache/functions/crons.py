"""Once a day, what has expired is forgotten. Nobody gets it before that, either."""

from reactor import cron_jobs, internal

crons = cron_jobs()
crons.interval("purge expired values", internal.values.purge, hours=24)
