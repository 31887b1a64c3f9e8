from reactor import define_app
from reactor.components import migrations

app = define_app()
app.use(migrations)
