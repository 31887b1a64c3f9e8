from reactor import define_app
from reactor.components import presence

app = define_app()
app.use(presence)
