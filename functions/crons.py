"""What the application does by itself."""

from functions.model.keys import KEY_TABLES
from functions.retention import POLICIES
from reactor import cron_jobs, internal

crons = cron_jobs()
crons.hourly("limits of nobody any more", internal.retention.sweep_limits, minute_utc=32)
crons.hourly("anomalies of keys", internal.anomalies.sweep, minute_utc=2)
for name in KEY_TABLES:
    crons.daily(f"expiry of {name}", internal.expiry.sweep, {"table": name}, hour_utc=6, minute_utc=0)
for table in POLICIES:
    crons.daily(f"retention of {table}", internal.retention.sweep, {"table": table}, hour_utc=3, minute_utc=17)
