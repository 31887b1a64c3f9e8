"""What every retrier does once a day."""

from reactor import cron_jobs, internal

crons = cron_jobs()
crons.daily("forget old runs", internal.cleaning.forget, hour_utc=4)
