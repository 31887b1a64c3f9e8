"""The components of the application."""

from reactor import define_app
from reactor.components import aggregate, migrations, rate_limiter, sharded_counter

app = define_app()
app.use(aggregate, name="request_totals")  # of the logs of requests, by provider and time
app.use(aggregate, name="embedding_totals")  # of the logs of requests for embeddings, by key and time
app.use(sharded_counter, name="embedding_counts")  # of the requests ever logged, by key
app.use(rate_limiter)
app.use(migrations)
