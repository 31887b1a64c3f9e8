from reactor import define_app
from reactor.components import action_cache

app = define_app()
app.use(action_cache)
