"""What type checkers make of custom functions. A line that must not check ends in `# expect: <mypy code>`."""

from collections.abc import Mapping
from typing import Any, TypedDict, assert_type

from reactor.runtime.context import MutationCtx, QueryCtx
from reactor.runtime.decorators import action, internal_mutation, mutation, query
from reactor.schema.validators import v


class User(TypedDict):
    name: str
    admin: bool


class UserCtx(QueryCtx):
    user: User

    def may_edit(self, document: Mapping[str, Any]) -> bool:
        return self.user["admin"] or document["owner"] == self.user["name"]


class UserMutationCtx(UserCtx, MutationCtx):
    pass


async def load(ctx: QueryCtx) -> dict[str, User]:
    return {"user": {"name": "ann", "admin": False}}


user_query = query.extend(ctx=UserCtx, context=load)
user_mutation = mutation.extend(ctx=UserMutationCtx, context=load)
untyped_query = query.extend(context=lambda ctx: {"user": ctx.auth})
with_token = internal_mutation.extend(context=lambda ctx, token: None, args={"token": v.string()})
logged = user_query.extend(on_success=lambda ctx, args, result: print(args))
logged_action = action.extend(on_success=lambda ctx, args, result: None)


@user_query
async def mine(ctx: UserCtx, limit: int = 3) -> list[str]:
    assert_type(ctx.user, User)
    assert_type(ctx.may_edit({}), bool)
    await ctx.db.query("messages").first()
    return [ctx.user["name"]] * limit


@logged(args={"limit": v.number()})
async def still_mine(ctx: UserCtx, limit: float) -> str:
    return ctx.user["name"]


@user_mutation
def rename(ctx: UserMutationCtx, name: str) -> str:
    ctx.db.insert("names", {"name": name})
    return name


@untyped_query
async def anything(ctx: Any, name: str) -> int:
    return len(name)


@logged_action
async def act(ctx: Any) -> None: ...


@with_token
async def guarded(ctx: Any, name: str) -> int:
    return len(name)


@user_query
async def less(ctx: QueryCtx) -> int:
    return 1


async def correct(ctx: MutationCtx) -> None:
    assert_type(await mine(ctx, limit=3), list[str])
    assert_type(await still_mine(ctx, 1.0), str)
    assert_type(rename(ctx, "b"), str)
    assert_type(await ctx.run_query(mine, limit=3), list[str])
    assert_type(await ctx.run_query(anything, name="a"), int)
    assert_type(await ctx.run_mutation(guarded, {"name": "a", "token": "t"}), int)


async def mistaken(ctx: QueryCtx) -> None:
    await mine(ctx, limit="3")  # expect: arg-type
    await still_mine(ctx)  # expect: call-arg
    assert_type(await mine(ctx), list[int])  # expect: assert-type


@user_query  # expect: arg-type
async def other_ctx(ctx: UserMutationCtx) -> None: ...


@logged(args={})  # expect: arg-type
async def no_ctx(name: int) -> None: ...


@user_query
async def no_such_member(ctx: UserCtx) -> str:
    return ctx.usr  # expect: attr-defined,no-any-return


def with_role(ctx: QueryCtx, role: str = "user") -> dict[str, str]:
    return {"role": role}


role_query = query.extend(ctx=UserCtx, context=with_role, options=["role"])
role_query.extend(on_success=lambda ctx, args, result: None)(role="admin")


@role_query(role="admin", args={"limit": v.number()})
async def of_admins(ctx: UserCtx, limit: float) -> str:
    return ctx.user["name"]


@user_query(role="admin")  # expect: call-overload,untyped-decorator
async def of_nobody(ctx: UserCtx) -> str:
    return ctx.user["name"]


query.extend(context=with_role, options=3)  # expect: call-overload
query.extend(contex=load)  # expect: call-overload
query.extend(context=lambda ctx: 3)  # expect: arg-type,return-value
