"""Who may call what: the rule of every public function, as the documentation states it, is kept."""

import re
from typing import Any

import pytest

from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "application" / "access.md").read_text(encoding="utf-8")
STATED = {
    path: (None if scope == "admin" else scope.strip("`"), public == "yes")
    for path, scope, public in re.findall(r"^\| `(\S+:\S+)` \| (\S+) \| ?(\w*) ?\|$", PAGE, re.MULTILINE)
}
"""The scope of each function, None for admins only, and whether AI_PUBLIC_LOGGING opens it to everybody."""
REFUSED = {"UNAUTHORIZED", "FORBIDDEN"}


def sample(spec: dict[str, Any], ids: dict[str, str]) -> Any:
    """Return a value that a validator, in its exported form, takes."""
    match spec["type"]:
        case "string":
            return "x"
        case "number":
            return 1
        case "boolean":
            return True
        case "literal":
            return spec["value"]
        case "array":
            return []
        case "null":
            return None
        case "union":
            return sample(spec["value"][-1], ids)
        case "id":
            return ids[spec["tableName"]]
        case "object":
            return {n: sample(f["fieldType"], ids) for n, f in spec["value"].items() if not f["optional"]}
    raise AssertionError(f"no sample of {spec}")


async def prepare(ctx: Any) -> dict[str, str]:
    """Insert a document of each kind that arguments name."""
    key = {"name": "n", "active": True, "expiresAt": ctx.now() + 1e9}
    limit = {"requests": 10, "windowSeconds": 60}
    alert = {"timestamp": ctx.now(), "kind": "bot_attack", "severity": "info", "subject": "s", "data": {}}
    return {
        "apiKeys": await ctx.db.insert("apiKeys", {**key, "key": "stored", "userId": "u", "scopes": []}),
        "embeddingApiKeys": await ctx.db.insert(
            "embeddingApiKeys", {**key, "keyHash": "stored", "createdAt": 0, "requestCount": 0, "rateLimit": limit}
        ),
        "alerts": await ctx.db.insert("alerts", alert),
    }


class Door:
    """One function, called with arguments that it takes; tells how a caller was refused, or None."""

    def __init__(self, path: str, kind: str, args: dict[str, Any]) -> None:
        self.path, self._kind, self._args = path, kind, args

    async def __call__(self, caller: Any, **more: Any) -> Any:
        try:
            await getattr(caller, self._kind)(self.path, {**self._args, **more})
        except ReactorError as error:
            data: Any = error.data
            return data if data["code"] in REFUSED else None
        return None


async def door_of(deployment: MemoryDeployment, path: str) -> Door:
    function = deployment.running().registry.functions[path]
    ids: Any = await deployment.run(prepare)
    return Door(path, function.kind, sample(function.binder.args.to_json(), ids))


def code_of(refusal: dict[str, Any] | None) -> str | None:
    return None if refusal is None else str(refusal["code"])


async def key_for(admin: Caller, *scopes: str, **more: Any) -> Any:
    args = {"name": "n", "userId": "u", "scopes": list(scopes), **more}
    return await admin.mutation("api_keys:create", args)


async def test_every_public_function_states_its_rule(deployment: MemoryDeployment) -> None:
    functions = deployment.running().registry.functions
    public = {path: found.function for path, found in functions.items() if found.visibility == "public"}
    rules = {}
    for path, function in public.items():
        contexts = [extension.context for extension in function.extensions]
        stated = [rule for rule in contexts if type(rule).__name__ == "Rule"]
        if function.kind != "http_action":
            assert stated, f"{path} is made by a decorator that asks nobody; use one of functions/access.py"
            rules[path] = (stated[0].scope, stated[0].public_logging)
    assert rules == STATED, "add it to the table of docs/application/access.md"
    # See test_http.py, and test_issuer.py.
    assert set(public) - set(rules) == {"http:admission", "issuer:discovery", "issuer:keys", "issuer:sign_in"}


async def test_nobody_is_let_in_but_admins_and_who_has_the_scope(deployment: MemoryDeployment) -> None:
    scopes = " ".join(scope for scope, _ in STATED.values() if scope is not None)
    stranger = deployment.with_identity({"name": "Ann", "scope": "none:at:all"})
    known = deployment.with_identity({"name": "Ann", "scope": scopes})
    for path, (scope, _) in STATED.items():
        door = await door_of(deployment, path)
        assert code_of(await door(deployment)) == "UNAUTHORIZED", path
        assert code_of(await door(stranger)) == "FORBIDDEN", path
        assert code_of(await door(known)) == (None if scope else "FORBIDDEN"), path
        assert await door(deployment.as_admin()) is None, path


async def test_a_key_opens_what_its_scopes_name(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    keys: dict[str, str] = {}
    for path, (scope, _) in STATED.items():
        if scope is None:
            continue
        door = await door_of(deployment, path)
        area = scope.partition(":")[0]
        opening = (scope, f"{area}:*", "*:*", f"{area[:2]}*:*")
        for granted in (*opening, "other:scope", area, f"{scope}:more", f"{area}:*:*", "*", ""):
            if granted not in keys:
                keys[granted] = (await key_for(admin, *filter(None, [granted])))["key"]
            code = code_of(await door(deployment, apiKey=keys[granted]))
            assert code == (None if granted in opening else "FORBIDDEN"), (path, granted)


async def test_nobody_learns_which_keys_there_are(deployment: MemoryDeployment) -> None:
    """An unknown key, a revoked and an expired one: the same answer, and the same work."""
    admin = deployment.as_admin()
    revoked, expired = await key_for(admin, "*:*"), await key_for(admin, "*:*", expiresInDays=1)
    await admin.mutation("api_keys:revoke", {"id": revoked["id"]})
    deployment.clock.advance(days=1)
    for path, (scope, _) in STATED.items():
        if scope is None:
            continue
        door = await door_of(deployment, path)
        with deployment.record_usage() as runs:
            answers = [await door(deployment, apiKey=key) for key in ("rk_unknown", revoked["key"], expired["key"])]
        assert {run.documents_read for run in runs if run.path == path} == {1}, path
        assert code_of(answers[0]) == "UNAUTHORIZED", path
        assert answers == [await door(deployment)] * 3, path  # and as if there was no key


async def test_public_logging_opens_what_logs_and_nothing_else(deployment: MemoryDeployment) -> None:
    for value in ("1", "TRUE", "", "true"):
        await deployment.env.set("AI_PUBLIC_LOGGING", value)
        for path, (_, is_public) in STATED.items():
            door = await door_of(deployment, path)
            assert (await door(deployment) is None) == (value == "true" and is_public), path


async def test_the_key_does_not_reach_the_function(deployment: MemoryDeployment) -> None:
    key = await key_for(deployment.as_admin(), "limits:*")
    assert "openaiRequests" in await deployment.query("ai/limits:limits", {"apiKey": key["key"]})  # type: ignore[operator]


@pytest.mark.parametrize(
    "claim",
    [
        *[
            "*",
            "*:*",
            "limits:*",
            "*:read",
            "l*:r*",
            "limits:read,x",
            "LIMITS:READ",
            "limits:read\u00a0x",
            "limits : read",
        ],
        *[["limits:*"], [["limits:read"]], ["x limits:read"], {"limits:read": True}, 7, True, "", []],
    ],
)
async def test_what_a_token_does_not_name_it_does_not_open(deployment: MemoryDeployment, claim: Any) -> None:
    ann = deployment.with_identity({"name": "Ann", "scope": claim, "isAdmin": True, "admin": True})
    for path in ("ai/limits:limits", "api_keys:list"):
        with pytest.raises(ReactorError, match="FORBIDDEN"):
            await ann.query(path, {})
    assert (await ann.fetch("/ai/openai", method="POST")).status_code == 403


async def test_a_scope_of_a_token_may_be_a_list(deployment: MemoryDeployment) -> None:
    ann = deployment.with_identity({"name": "Ann", "scope": ["limits:read", 7]})
    assert "openaiRequests" in await ann.query("ai/limits:limits", {})  # type: ignore[operator]
