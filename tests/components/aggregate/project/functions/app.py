"""Mounts the component several times."""

from reactor import define_app
from reactor.components import aggregate

app = define_app()
app.use(aggregate)
app.use(aggregate, name="games")
app.use(aggregate, name="players")
app.use(aggregate, name="queued")
app.use(aggregate, name="imported")
