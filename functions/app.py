"""The components that the application mounts."""

from reactor import define_app
from reactor.components import rate_limiter

app = define_app()
app.use(rate_limiter)
