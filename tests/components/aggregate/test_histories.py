"""Any history of calls, at once or queued, in several namespaces, gives what dicts give; no tree breaks a rule."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from reactor import ReactorError, components, undefined
from reactor.components.aggregate import Bound, Bounds, DirectAggregate
from reactor.testing.deployment import BlockingMemoryDeployment, MemoryDeployment
from tests.sizes import size

direct = DirectAggregate(components.aggregate)

NAMESPACES = [undefined, None, "a"]
KEYS = st.integers(0, 6).map(float) | st.sampled_from(["a", ["a", 1.0], ["a", 2.0], ["b"], None])
IDS = st.sampled_from("pq")
SPACES = st.sampled_from(NAMESPACES)
NUMBERS = st.integers(-(10**12), 10**12).map(float)

Model = dict[tuple[int, str, str], tuple[Any, float]]  # namespace, key and id as text -> key and number


def place(namespace: Any, key: Any, document_id: str) -> tuple[int, str, str]:
    return NAMESPACES.index(namespace), repr(key), document_id


class Histories(RuleBasedStateMachine):
    """Each rule is one call, in a mutation of its own."""

    make: Callable[[], MemoryDeployment]

    @initialize(max_size=st.sampled_from([4, 16]), root_lazy=st.booleans())
    def open(self, max_size: int, root_lazy: bool) -> None:
        self.deployment: BlockingMemoryDeployment = self.make().blocking().__enter__()
        self.model: Model = {}
        self.call(lambda ctx: direct.clear_all(ctx, max_node_size=max_size, root_lazy=root_lazy))

    def teardown(self) -> None:
        if hasattr(self, "deployment"):
            self.deployment.__exit__(None, None, None)

    def call(self, handler: Callable[[Any], Any], error: bool = False) -> Any:
        """Make one call; what is queued by it is done when this returns. Tell whether it failed as it should."""
        if error:
            with pytest.raises(ReactorError):
                self.deployment.run(handler)
            return None
        result = self.deployment.run(handler)
        self.deployment.finish_all_scheduled_functions()
        return result

    @rule(namespace=SPACES, key=KEYS, document_id=IDS, number=NUMBERS, later=st.booleans())
    def insert(self, namespace: Any, key: Any, document_id: str, number: float, later: bool) -> None:
        here = place(namespace, key, document_id)
        exists = here in self.model
        self.call(
            lambda ctx: direct.insert(ctx, key=key, id=document_id, sum_value=number, namespace=namespace, later=later),
            error=exists and not later,
        )
        self.model.setdefault(here, (key, number))

    @rule(namespace=SPACES, key=KEYS, document_id=IDS, later=st.booleans(), strict=st.booleans())
    def delete(self, namespace: Any, key: Any, document_id: str, later: bool, strict: bool) -> None:
        here = place(namespace, key, document_id)
        method = direct.delete if strict else direct.delete_if_exists
        self.call(
            lambda ctx: method(ctx, key=key, id=document_id, namespace=namespace, later=later),
            error=strict and not later and here not in self.model,
        )
        self.model.pop(here, None)

    @rule(
        spaces=st.tuples(SPACES, SPACES),
        keys=st.tuples(KEYS, KEYS),
        document_id=IDS,
        number=NUMBERS,
        later=st.booleans(),
        strict=st.booleans(),
    )
    def replace(self, spaces: Any, keys: Any, document_id: str, number: float, later: bool, strict: bool) -> None:
        old, new = (place(space, key, document_id) for space, key in zip(spaces, keys, strict=True))
        fails = strict and (old not in self.model or (new != old and new in self.model))
        method = direct.replace if strict else direct.replace_or_insert
        self.call(
            lambda ctx: method(
                ctx,
                current_key=keys[0],
                key=keys[1],
                id=document_id,
                sum_value=number,
                current_namespace=spaces[0],
                namespace=spaces[1],
                later=later,
            ),
            error=fails and not later,
        )
        if not fails:
            self.model.pop(old, None)
            self.model[new] = (keys[1], number)

    @rule(namespace=SPACES, start=st.integers(0, 40), later=st.booleans())
    def insert_many(self, namespace: Any, start: int, later: bool) -> None:
        items = [(float(start + n), "p", float(n), namespace) for n in range(15)]
        self.call(lambda ctx: direct.insert_many_if_do_not_exist(ctx, items, later=later))
        for key, document_id, number, _ in items:
            self.model[place(namespace, key, document_id)] = (key, float(number))

    @rule(namespace=SPACES)
    def clear(self, namespace: Any) -> None:
        self.call(lambda ctx: direct.clear(ctx, namespace=namespace))
        number = NAMESPACES.index(namespace)
        self.model = {here: item for here, item in self.model.items() if here[0] != number}

    @rule()
    def make_all_roots_lazy(self) -> None:
        self.call(lambda ctx: direct.make_all_roots_lazy(ctx))

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        if hasattr(self, "deployment"):
            self.deployment.run(self.compare)

    async def compare(self, ctx: Any) -> None:
        for number, namespace in enumerate(NAMESPACES):
            mine = {(text, id): item for (space, text, id), item in self.model.items() if space == number}
            totals = await direct.validate(ctx, namespace=namespace)
            assert [totals.count, totals.sum] == [len(mine), sum(value for _, value in mine.values())]
            found = [item async for item in direct.iterate(ctx, namespace=namespace, page_size=4)]
            assert {(repr(item.key), item.id): (item.key, item.sum_value) for item in found} == mine
            numbers = sorted(key for key, _ in mine.values() if isinstance(key, float))
            middle = Bounds(Bound(2, inclusive=False), Bound(5))
            expected = [key for key in numbers if 2 < key <= 5]
            assert await direct.count(ctx, namespace=namespace, bounds=middle) == len(expected)
            for offset, item in enumerate(found):
                assert (await direct.at(ctx, offset, namespace=namespace)).id == item.id
                assert await direct.index_of(ctx, item.key, id=item.id, namespace=namespace) == offset


def test_any_history_gives_what_dicts_give(make_deployment: Callable[[], MemoryDeployment]) -> None:
    machine = type("Machine", (Histories,), {"make": staticmethod(make_deployment)})
    run_state_machine_as_test(machine, settings=settings(max_examples=size(6, 200), stateful_step_count=size(12, 40)))
