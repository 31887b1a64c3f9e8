"""`crud(table)`: the five functions that nearly every table needs while an application is young.

Owns their arguments and what they return. Promises that they are internal unless it is asked for otherwise: a public
`destroy` without a check lets anybody delete everything.
"""

from typing import Any, NamedTuple

from reactor import internal_mutation, internal_query, pagination_opts_validator, v


class Crud(NamedTuple):
    """The functions of one table. A module exports them under the names it binds them to.

    `create(document)` returns the new document, `read(id)` a document or null, `paginate(paginationOpts)` a page in the
    order of creation, `update(id, patch)` null, and `destroy(id)` the document that was deleted, or null.
    """

    create: Any
    read: Any
    paginate: Any
    update: Any
    destroy: Any


def crud(table: str, *, query: Any = internal_query, mutation: Any = internal_mutation) -> Crud:
    """Return functions that create, read, page through, update and destroy documents of a table.

    `create, read, paginate, update, destroy = crud("users")` in functions/users.py makes `users:create` and so on. The
    schema says what a document may be, so `create` and `update` take any fields.

    Args:
        table: one of the schema.
        query: the decorator of `read` and `paginate`: for public functions one that checks who calls
            (docs/howto/custom-functions.md), or `reactor.query` for everybody.
        mutation: the decorator of the others.
    """
    fields = v.record(v.string(), v.any())

    async def create(ctx: Any, document: dict[str, Any]) -> Any:
        return await ctx.db.get(table, await ctx.db.insert(table, document))

    async def read(ctx: Any, id: str) -> Any:
        return await ctx.db.get(table, id)

    async def paginate(ctx: Any, pagination_opts: dict[str, Any]) -> Any:
        return await ctx.db.query(table).paginate(pagination_opts)

    async def update(ctx: Any, id: str, patch: dict[str, Any]) -> None:
        await ctx.db.patch(table, id, patch)

    async def destroy(ctx: Any, id: str) -> Any:
        document = await ctx.db.get(table, id)
        if document is not None:
            await ctx.db.delete(table, id)
        return document

    return Crud(
        mutation(args={"document": fields})(create),
        query(args={"id": v.id(table)})(read),
        query(args={"paginationOpts": pagination_opts_validator})(paginate),
        mutation(args={"id": v.id(table), "patch": fields})(update),
        mutation(args={"id": v.id(table)})(destroy),
    )
