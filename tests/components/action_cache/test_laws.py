"""Keeping, finding, forgetting and waiting in any order, against a dict."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reactor.testing.deployment import BlockingMemoryDeployment, MemoryDeployment
from tests.sizes import size

CALLS = st.sampled_from([{}, {"a": 1}, {"a": None}, {"text": "x" * 1000}])
SPANS = st.none() | st.sampled_from([0.0, 1000.0, 20_000.0, 50_000.0])
STEPS = st.one_of(
    st.tuples(st.just("put"), CALLS, SPANS, st.booleans()),
    st.tuples(st.just("get"), CALLS, SPANS),
    st.tuples(st.just("wait"), st.sampled_from([1, 19, 20, 50])),
    st.tuples(st.just("remove"), CALLS),
    st.tuples(st.just("purge")),
)


class Model:
    """What should be kept: value, creation and expiry, by key."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[int, float, float | None]] = {}

    def find(self, key: str, ttl: float | None, now: float) -> int | None:
        if key not in self.kept:
            return None
        value, created, expires = self.kept[key]
        limits = [limit for limit in (expires, None if ttl is None else created + ttl) if limit is not None]
        return None if limits and min(limits) <= now else value


@settings(max_examples=size(20, 1000))
@given(steps=st.lists(STEPS, min_size=10, max_size=30))
def test_it_is_a_dict_that_forgets(make_deployment: Callable[[], MemoryDeployment], steps: list[Any]) -> None:
    with make_deployment().blocking() as opened:
        check(opened, steps)


def check(opened: BlockingMemoryDeployment, steps: list[Any]) -> None:
    """Take these steps; what there is must be what the model says after each."""
    cache = opened.component("action_cache")
    model, count = Model(), 0
    for kind, *step in steps:
        now = opened.clock.now_ms
        call = {"name": "n", "args": step[0]} if kind in ("put", "get", "remove") else {}
        key = repr(step[0]) if call else ""
        if kind == "put":
            count += 1
            ttl, has_seen = step[1], step[2]
            seen: Any = cache.query("values:find", call)
            entry = {"expiredEntry": seen["id"]} if seen is not None and has_seen else {}
            hit = cache.mutation("values:put", {**call, "value": count, "ttl": ttl, **entry})
            present = model.kept.get(key)
            stays = present is not None and not has_seen and (present[2] is None) == (ttl is None)
            assert hit == {"cacheHit": stays}
            if not stays:
                model.kept[key] = count, now, None if ttl is None else now + ttl
        elif kind == "get":
            found: Any = cache.query("values:get", {**call, "ttl": step[1]})
            expected = model.find(key, step[1], now)
            assert found.get("value") == expected
            assert found["kind"] == ("miss" if expected is None else "hit")
            assert ("expiredEntry" in found) == (expected is None and key in model.kept)
        elif kind == "wait":
            opened.clock.advance(seconds=step[0])  # longer than a query is kept that looks at the clock
        elif kind == "remove":
            cache.mutation("values:remove", call)
            model.kept.pop(key, None)
        else:
            cache.mutation("values:purge")
            opened.finish_in_progress_scheduled_functions()
            model.kept = {key: kept for key, kept in model.kept.items() if kept[2] is None or kept[2] > now}
        values: Any = cache.run(lambda ctx: ctx.db.query("values").collect())
        metadata: Any = cache.run(lambda ctx: ctx.db.query("metadata").collect())
        assert len(values) == len(model.kept)
        assert {row["metadataId"] for row in values if "metadataId" in row} == {row["_id"] for row in metadata}
        assert len(metadata) == sum(expires is not None for _, _, expires in model.kept.values()), "no orphans"
