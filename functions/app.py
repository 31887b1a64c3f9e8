"""The components of the application."""

from reactor import define_app
from reactor.components import aggregate, rate_limiter

app = define_app()
app.use(aggregate, name="request_totals")  # of the logs of requests, by provider and time
app.use(rate_limiter)
