"""Aggregates of items that the application names itself."""

from collections.abc import Sequence
from typing import Any

from reactor import undefined
from reactor.components.aggregate.client import Aggregate, SumValue, entry
from reactor.components.aggregate.operations import Place
from reactor.components.contexts import WriteCtx

NamedItem = tuple[Any, str, SumValue, Any]
"""Key, id, what is summed, and the namespace (`undefined` for none)."""


class DirectAggregate(Aggregate):
    """An aggregate of items that the application names: each has a key, an id, and what is summed of it."""

    async def insert(
        self,
        ctx: WriteCtx,
        *,
        key: Any,
        id: str,
        sum_value: SumValue = 0,
        namespace: Any = undefined,
        later: bool = False,
    ) -> None:
        """Put an item in.

        Raises:
            ReactorError: there is one with this key and id, or a number is not finite.
        """
        await self._tell(ctx, [{"kind": "insert", "new": entry(key, id, sum_value, namespace)}], later)

    async def delete(
        self, ctx: WriteCtx, *, key: Any, id: str, namespace: Any = undefined, later: bool = False
    ) -> None:
        """Take an item out.

        Raises:
            ReactorError: DELETE_MISSING_KEY, there is none with this key and id.
        """
        place: Place = {"key": key, "id": id, "namespace": namespace}
        await self._tell(ctx, [{"kind": "delete", "current": place}], later)

    async def replace(
        self,
        ctx: WriteCtx,
        *,
        current_key: Any,
        key: Any,
        id: str,
        sum_value: SumValue = 0,
        current_namespace: Any = undefined,
        namespace: Any = undefined,
        later: bool = False,
    ) -> None:
        """Give an item another key, another namespace, or other numbers to sum.

        Raises:
            ReactorError: DELETE_MISSING_KEY, there is none with this key and id; or there is one with the new ones.
        """
        current: Place = {"key": current_key, "id": id, "namespace": current_namespace}
        new = entry(key, id, sum_value, namespace)
        await self._tell(ctx, [{"kind": "replace", "current": current, "new": new}], later)

    async def insert_if_does_not_exist(
        self,
        ctx: WriteCtx,
        *,
        key: Any,
        id: str,
        sum_value: SumValue = 0,
        namespace: Any = undefined,
        later: bool = False,
    ) -> None:
        """Put an item in; if it is there, give it these numbers to sum.

        Raises:
            ReactorError: a number is not finite.
        """
        await self._tell(ctx, [{"kind": "replaceOrInsert", "new": entry(key, id, sum_value, namespace)}], later)

    async def delete_if_exists(
        self, ctx: WriteCtx, *, key: Any, id: str, namespace: Any = undefined, later: bool = False
    ) -> None:
        """Take an item out, if it is there."""
        place: Place = {"key": key, "id": id, "namespace": namespace}
        await self._tell(ctx, [{"kind": "deleteIfExists", "current": place}], later)

    async def replace_or_insert(
        self,
        ctx: WriteCtx,
        *,
        current_key: Any,
        key: Any,
        id: str,
        sum_value: SumValue = 0,
        current_namespace: Any = undefined,
        namespace: Any = undefined,
        later: bool = False,
    ) -> None:
        """Give an item another key, another namespace, or other numbers to sum; put it in, if it is not there.

        Raises:
            ReactorError: a number is not finite.
        """
        current: Place = {"key": current_key, "id": id, "namespace": current_namespace}
        new = entry(key, id, sum_value, namespace)
        await self._tell(ctx, [{"kind": "replaceOrInsert", "current": current, "new": new}], later)

    async def insert_many(self, ctx: WriteCtx, items: Sequence[NamedItem], *, later: bool = False) -> None:
        """Put many items in, for much less than one by one.

        Raises:
            ReactorError: there is one with this key and id, or a number is not finite.
        """
        await self._tell(ctx, [{"kind": "insert", "new": entry(*item)} for item in items], later)

    async def insert_many_if_do_not_exist(
        self, ctx: WriteCtx, items: Sequence[NamedItem], *, later: bool = False
    ) -> None:
        """Put many items in; those that are there get these numbers to sum.

        Raises:
            ReactorError: a number is not finite.
        """
        await self._tell(ctx, [{"kind": "replaceOrInsert", "new": entry(*item)} for item in items], later)
