"""Mounts the pool."""

from reactor import define_app
from reactor.components import workpool

app = define_app()
app.use(workpool)
