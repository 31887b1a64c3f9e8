"""The class with which an application declares its migrations, and runs them.

A migration is an internal mutation of the application. Called without arguments, from the command line, say, it starts
itself, or goes on where it was; the component calls it with `oneBatchOnly` for each batch.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict, cast

from reactor import ActionCtx, MutationCtx, ReactorError, internal_mutation, undefined, v
from reactor.components.contexts import ReadCtx, WriteCtx
from reactor.components.migrations.definition import Batches, CustomRange, MigrateOne

DEFAULT_BATCH_SIZE: Final = 100

OPTIONS: Final = {
    "fn": v.optional(v.string()),
    "cursor": v.optional(v.nullable(v.string())),
    "batchSize": v.optional(v.integer()),
    "dryRun": v.optional(v.boolean()),
    "next": v.optional(v.array(v.string())),
    "reset": v.optional(v.boolean()),
    "oneBatchOnly": v.optional(v.boolean()),
}

Handler = Callable[..., Awaitable[Any]]


class MigrationStatus(TypedDict):
    """How far a migration is, in the form in which functions hand it out. `cursor` is None when it is done."""

    name: str
    cursor: str | None
    processed: int
    isDone: bool
    state: Literal["inProgress", "success", "failed", "canceled", "unknown"]
    error: NotRequired[str]
    latestStart: float
    latestEnd: NotRequired[float]
    batchSize: NotRequired[int]
    next: NotRequired[list[str]]


class Migrations:
    """The migrations of an application: `migrations = Migrations(components.migrations)`."""

    def __init__(
        self,
        component: Any,
        *,
        internal_mutation: Any = internal_mutation,
        default_batch_size: int = DEFAULT_BATCH_SIZE,
        location_prefix: str = "migrations:",
    ) -> None:
        """
        Args:
            component: where it is mounted: `components.migrations`.
            internal_mutation: a decorator of the application's own to make them with.
            default_batch_size: how many documents one transaction changes unless told.
            location_prefix: where a migration is that is named without a module: `v1_to_v2` for `migrations:v1_to_v2`.

        Raises:
            ValueError: the batch size is no positive number.
        """
        self.component = component
        self._internal_mutation = internal_mutation
        self._default_batch_size = _checked_size(default_batch_size)
        self._location_prefix = location_prefix

    def define(
        self,
        *,
        table: str,
        batch_size: int | None = None,
        custom_range: CustomRange | None = None,
        parallelize: bool = False,
    ) -> Callable[[MigrateOne], Any]:
        """Make a migration of a function that changes one document: `@migrations.define(table="users")`.

        The function gets `ctx` and the document, and returns the fields to change, `reactor.undefined` to remove one,
        or None; it may also write by itself. What it raises undoes its batch, and stops the migration there.

        Args:
            table: whose documents.
            batch_size: how many of them one transaction changes. It takes fewer where they are large.
            custom_range: gets `ctx.db.query(table)`, and returns a part of it: `lambda q: q.with_index("by_x", x=1)`.
                Each batch must get the same part.
            parallelize: whether the documents of one batch are changed side by side.

        Raises:
            ValueError: the batch size is no positive number.
        """
        size = self._default_batch_size if batch_size is None else _checked_size(batch_size)

        def decorate(migrate_one: MigrateOne) -> Any:
            batches = Batches(table, migrate_one, custom_range, parallelize)

            async def handler(ctx: MutationCtx, /, **options: Any) -> Any:
                if not options.get("oneBatchOnly") or "fn" in options:
                    return await self._run_from_outside(ctx, options, [migration])
                own_size = _checked_size(options.get("batchSize", size))
                return await batches.run(ctx, options.get("cursor"), own_size, options.get("dryRun", False))

            migration = self._function(handler, migrate_one)
            return migration

        return decorate

    def runner(self, migrations: Any = None) -> Any:
        """Return an internal mutation, to be exported, that runs what is named here, or in its argument `fn`.

        Its arguments are `fn`, `next`, `cursor`, `batchSize`, `dryRun`, `reset` and `oneBatchOnly`.

        Args:
            migrations: one migration, or several to be run one after the other.
        """
        several = migrations if isinstance(migrations, list | tuple) else [] if migrations is None else [migrations]

        async def run(ctx: MutationCtx, /, **options: Any) -> Any:
            return await self._run_from_outside(ctx, options, several)

        return self._function(run, run)

    async def run_one(
        self,
        ctx: WriteCtx,
        migration: Any,
        /,
        *,
        cursor: Any = undefined,
        batch_size: int | None = None,
        dry_run: bool = False,
        reset: bool = False,
    ) -> MigrationStatus:
        """Start a migration, or go on with it: the first batch now, the others by the scheduler. Return its status.

        One that is done or under way is left alone.

        Args:
            cursor: where to begin; None is the start of the table.
            dry_run: run one batch, print what it would change, and take it back.
            reset: begin again, also when it is done.

        Raises:
            ValueError: the batch size is no positive number.
        """
        return await self._migrate(ctx, [migration], cursor=cursor, batch_size=batch_size, dry_run=dry_run, reset=reset)

    async def run_serially(
        self, ctx: WriteCtx, migrations: Sequence[Any], /, *, reset: bool = False
    ) -> MigrationStatus:
        """Run several migrations, each when the one before is done; return the status of the first.

        Those that are done are left out, unless `reset`. When one of them is under way, nothing happens and its status
        is returned. One that fails keeps those behind it from beginning; called again, this goes on there.

        Raises:
            ValueError: none is named.
        """
        if not migrations:
            raise ValueError("run_serially: name at least one migration.")
        return await self._migrate(ctx, migrations, reset=reset)

    async def run_to_completion(
        self,
        ctx: ActionCtx,
        migration: Any,
        /,
        *,
        cursor: Any = undefined,
        batch_size: int | None = None,
        reset: bool = False,
    ) -> MigrationStatus:
        """Run a migration from an action, batch by batch, until it is done; return its status.

        When the action ends before, the migration stays where it is, and can be gone on with in any way.

        Raises:
            RuntimeError: a batch failed or got nowhere, or it is under way already.
        """
        before: MigrationStatus | None = None
        while True:
            status = await self._migrate(
                ctx, [migration], cursor=cursor, batch_size=batch_size, reset=reset, one_batch_only=True
            )
            name = status["name"]
            if status["isDone"]:
                return status
            if status["state"] == "failed":
                raise RuntimeError(f"Migration {name!r} failed: {status.get('error')}")
            if status["state"] == "inProgress":
                raise RuntimeError(f"Migration {name!r} is under way already, by scheduled functions.")
            if before is not None and status["cursor"] == before["cursor"]:
                raise RuntimeError(f"Migration {name!r} makes no progress behind {status['processed']} documents.")
            before, cursor, reset = status, undefined, False

    async def status(
        self,
        ctx: ReadCtx,
        /,
        *,
        migrations: Sequence[Any] | None = None,
        limit: int | None = None,
    ) -> list[MigrationStatus]:
        """Return the status of some migrations, in that order, else of the latest ones, the newest first."""
        args: dict[str, Any] = {}
        if migrations is not None:
            args["names"] = [(await self._named(ctx, migration))["name"] for migration in migrations]
        if limit is not None:
            args["limit"] = limit
        return cast(list[MigrationStatus], await ctx.run_query(self.component.runs.get_status, args))

    async def cancel(self, ctx: WriteCtx, migration: Any, /) -> MigrationStatus:
        """Stop a migration behind the batch that runs; return its status. Started again, it goes on there.

        Raises:
            ValueError: it was never started.
        """
        name = (await self._named(ctx, migration))["name"]
        return cast(MigrationStatus, await ctx.run_mutation(self.component.runs.cancel, name=name))

    async def cancel_all(self, ctx: WriteCtx, /) -> list[MigrationStatus]:
        """Stop every migration that is under way; return their statuses."""
        return cast(list[MigrationStatus], await ctx.run_mutation(self.component.runs.cancel_all))

    def _function(self, handler: Handler, shown: Callable[..., Any]) -> Any:
        """Return a function of the application that looks like `shown` and takes the options of a run."""
        signature = inspect.signature(handler)
        if shown is not handler:
            functools.update_wrapper(handler, shown)
        handler.__signature__ = signature  # type: ignore[attr-defined]  # not that of what it looks like
        return self._internal_mutation(args=OPTIONS, returns=v.any())(handler)

    async def _run_from_outside(self, ctx: MutationCtx, options: Mapping[str, Any], own: Sequence[Any]) -> Any:
        """Run what the arguments name, else `own`, for somebody at the command line, say.

        Raises:
            ValueError: nothing is named.
        """
        named = [options["fn"]] if "fn" in options else list(own)
        if not named:
            raise ValueError('Name the migration to run: {"fn": "migrations:…"}.')
        dry_run = options.get("dryRun", False)
        status = await self._migrate(
            ctx,
            [*named, *options.get("next", ())],
            cursor=options.get("cursor", undefined),
            batch_size=options.get("batchSize"),
            dry_run=dry_run,
            reset=options.get("reset", False),
            one_batch_only=options.get("oneBatchOnly", False),
        )
        return {"kind": "DRY RUN", "status": status} if dry_run else status

    async def _migrate(
        self,
        ctx: WriteCtx,
        migrations: Sequence[Any],
        *,
        cursor: Any = undefined,
        batch_size: int | None = None,
        dry_run: bool = False,
        reset: bool = False,
        one_batch_only: bool = False,
    ) -> MigrationStatus:
        first, *others = [await self._named(ctx, migration) for migration in migrations]
        args: dict[str, Any] = {**first, "dryRun": dry_run, "reset": reset, "oneBatchOnly": one_batch_only}
        if others:
            args["next"] = others
        if cursor is not undefined:
            args["cursor"] = cursor
        if batch_size is not None:
            args["batchSize"] = batch_size
        try:
            return cast(MigrationStatus, await ctx.run_mutation(self.component.runs.migrate, args))
        except ReactorError as error:
            data = error.data
            if not (dry_run and isinstance(data, dict) and data.get("kind") == "DRY RUN"):
                raise
            return cast(MigrationStatus, data["status"])

    async def _named(self, ctx: ReadCtx, migration: Any) -> dict[str, str]:
        """Return the handle of a migration, and the name it is remembered by: its path, however it was spelled."""
        if isinstance(migration, str) and ":" not in migration:
            migration = self._location_prefix + migration
        handle = await ctx.function_handle(migration)
        return {"name": handle.partition("#")[2], "fnHandle": handle}


def _checked_size(size: int) -> int:
    if size <= 0:
        raise ValueError(f"The batch size of a migration must be greater than 0, not {size}.")
    return size
