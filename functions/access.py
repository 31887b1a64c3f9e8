"""Who may call what: every public function of the application is made by one of the decorators below.

A rule lets in callers with an admin key; callers with an API key that has the rule's scope, given as the argument
`apiKey`, which the function itself does not see; and users whose token names that scope in its `scope` claim. Some let
in everybody while the environment variable AI_PUBLIC_LOGGING is `true`, which is for development. Whoever is refused
learns nothing of the keys there are: one that is unknown, inactive or expired costs the same reads and gets the same
answer. What a function may tell of its caller is `ctx.caller`.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from functions.model.keys import API_KEYS, find_key, hash_of, is_valid
from functions.model.scopes import allows, scopes_of
from reactor import MutationCtx, QueryCtx, ReactorError, mutation, query, v

PUBLIC_LOGGING: Final = "AI_PUBLIC_LOGGING"
API_KEY_ARGUMENT: Final = {"apiKey": v.optional(v.string())}


@dataclass(frozen=True)
class Caller:
    """Who calls. `name` is for logs: `admin`, `key:` and the key's prefix, a user's token identifier, `anonymous`."""

    kind: Literal["admin", "key", "user", "anonymous"]
    name: str


ADMIN: Final = Caller("admin", "admin")
ANONYMOUS: Final = Caller("anonymous", "anonymous")


class CallerQueryCtx(QueryCtx):
    """The `ctx` of a query with a rule."""

    caller: Caller


class CallerMutationCtx(CallerQueryCtx, MutationCtx):
    """The `ctx` of a mutation with a rule."""


@dataclass(frozen=True)
class Rule:
    """Who may call a function: an admin, whoever has `scope` if there is one, and with `public_logging` anybody then.

    Stands in `extend(context=...)`, and so runs in the transaction of the function, before its handler.
    """

    scope: str | None = None
    public_logging: bool = False

    async def __call__(self, ctx: Any, api_key: str | None = None) -> dict[str, Caller]:
        """Return `ctx.caller`.

        Raises:
            ReactorError: code `UNAUTHORIZED`, for callers who are nobody here, or `FORBIDDEN`, for those who lack the
                scope.
        """
        if ctx.auth.is_admin:
            return {"caller": ADMIN}
        if api_key is not None:
            return {"caller": await self._key(ctx, api_key)}
        identity = await ctx.auth.get_user_identity()
        if self.scope is not None and identity is not None and self.scope in scopes_of(identity):
            return {"caller": Caller("user", identity["tokenIdentifier"])}
        if self.public_logging and ctx.env.get(PUBLIC_LOGGING) == "true":
            return {"caller": ANONYMOUS}
        raise self._refusal("UNAUTHORIZED" if identity is None else "FORBIDDEN")

    async def _key(self, ctx: Any, api_key: str) -> Caller:
        key = await find_key(ctx, API_KEYS, hash_of(api_key))
        if self.scope is None or key is None or not is_valid(key, ctx.now()):
            raise self._refusal("UNAUTHORIZED")
        if not allows(key.document["scopes"], self.scope):
            raise self._refusal("FORBIDDEN")
        return Caller("key", f"key:{key.prefix}")

    def _refusal(self, code: str) -> ReactorError:
        wanted = ["an admin key"]
        if self.scope is not None:
            wanted += [f"an API key with scope {self.scope!r} as the argument apiKey", "a user's token with that scope"]
        return ReactorError({"code": code, "message": f"This function takes {', or '.join(wanted)}."})


ADMIN_ONLY: Final = Rule()
ANALYTICS_READ: Final = Rule("analytics:read", public_logging=True)
ANALYTICS_WRITE: Final = Rule("analytics:write", public_logging=True)
EMBEDDINGS_READ: Final = Rule("embeddings:read", public_logging=True)
EMBEDDINGS_WRITE: Final = Rule("embeddings:write", public_logging=True)
LIMITS_READ: Final = Rule("limits:read")
LIMITS_CHECK: Final = Rule("limits:check")
KEYS_VERIFY: Final = Rule("keys:verify")

admin_query = query.extend(ctx=CallerQueryCtx, context=ADMIN_ONLY)
admin_mutation = mutation.extend(ctx=CallerMutationCtx, context=ADMIN_ONLY)
analytics_query = query.extend(ctx=CallerQueryCtx, context=ANALYTICS_READ, args=API_KEY_ARGUMENT)
analytics_mutation = mutation.extend(ctx=CallerMutationCtx, context=ANALYTICS_WRITE, args=API_KEY_ARGUMENT)
embeddings_query = query.extend(ctx=CallerQueryCtx, context=EMBEDDINGS_READ, args=API_KEY_ARGUMENT)
embeddings_mutation = mutation.extend(ctx=CallerMutationCtx, context=EMBEDDINGS_WRITE, args=API_KEY_ARGUMENT)
limits_query = query.extend(ctx=CallerQueryCtx, context=LIMITS_READ, args=API_KEY_ARGUMENT)
limits_mutation = mutation.extend(ctx=CallerMutationCtx, context=LIMITS_CHECK, args=API_KEY_ARGUMENT)
keys_mutation = mutation.extend(ctx=CallerMutationCtx, context=KEYS_VERIFY, args=API_KEY_ARGUMENT)
