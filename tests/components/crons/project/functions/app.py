from reactor import define_app
from reactor.components import crons

app = define_app()
app.use(crons)
