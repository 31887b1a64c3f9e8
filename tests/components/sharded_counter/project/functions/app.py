"""Mounts the component twice."""

from reactor import define_app
from reactor.components import sharded_counter

app = define_app()
app.use(sharded_counter)
app.use(sharded_counter, name="others")
