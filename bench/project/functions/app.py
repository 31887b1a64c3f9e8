"""The components that are measured."""

from reactor import define_app
from reactor.components import rate_limiter

app = define_app()
app.use(rate_limiter)
