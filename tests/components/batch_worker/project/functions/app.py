"""Mounts the loops."""

from reactor import define_app
from reactor.components import batch_worker

app = define_app()
app.use(batch_worker)
