"""Mounts the retrier."""

from reactor import define_app
from reactor.components import action_retrier

app = define_app()
app.use(action_retrier)
