"""Migrations, which change the documents of a table in batches, each a transaction, while the application runs.

The component remembers how far each migration is; the migrations themselves are functions of the application, made by
`Migrations.define`. A migration that was interrupted goes on where it was.

See `docs/components/migrations.md`.
"""

from reactor import define_component
from reactor.components.migrations.client import Migrations, MigrationStatus

component = define_component(__name__)

__all__ = ["MigrationStatus", "Migrations", "component"]
