"""What the application does by itself."""

from functions.retention import POLICIES
from reactor import cron_jobs, internal

crons = cron_jobs()
for table in POLICIES:
    crons.daily(f"retention of {table}", internal.retention.sweep, {"table": table}, hour_utc=3, minute_utc=17)
