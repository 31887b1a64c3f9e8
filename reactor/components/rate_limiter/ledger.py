"""The documents of one limit and key, as one transaction sees and changes them.

Promises that each shard is read once and written once, at the end, however often tokens were taken from it in between;
and that nothing is written before `write`. Used by the component's functions.
"""

from typing import Any

from reactor import undefined
from reactor.components.rate_limiter.arithmetic import State


class Ledger:
    """What is left of one limit and key, by shard."""

    def __init__(self, ctx: Any, name: str, key: str | None) -> None:
        self._ctx = ctx
        self._name = name
        self._key = undefined if key is None else key
        self._found: dict[int, str | None] = {}  # the document of each shard that was read; None when there is none
        self._states: dict[int, State | None] = {}
        self._changed: set[int] = set()

    def state(self, shard: int) -> State | None:
        """Return what is left in a shard, or None when nobody has taken anything from it."""
        if shard in self._states:
            return self._states[shard]
        documents = self._ctx.db.query("rateLimits").with_index("name", name=self._name, key=self._key, shard=shard)
        document = documents.unique()
        self._found[shard] = None if document is None else document["_id"]
        state = self._states[shard] = None if document is None else State(document["value"], document["ts"])
        return state

    def states(self) -> dict[int, State]:
        """Return what is left in every shard that somebody has taken from, also in those that are used no more."""
        documents = self._ctx.db.query("rateLimits").with_index("name", name=self._name, key=self._key)
        for document in documents.collect():
            shard = int(document["shard"])
            if shard not in self._states:
                self._found[shard] = document["_id"]
                self._states[shard] = State(document["value"], document["ts"])
        return {shard: state for shard, state in self._states.items() if state is not None}

    def change(self, shard: int, state: State) -> None:
        """Let `state` be what is left in a shard that was read before."""
        self._states[shard] = state
        self._changed.add(shard)

    def write(self) -> None:
        """Store what has changed."""
        for shard in sorted(self._changed):
            state, found = self._states[shard], self._found[shard]
            assert state is not None, "a change has a state"
            fields = {"value": state.value, "ts": state.ts}
            if found is not None:
                self._ctx.db.patch(found, fields)
                continue
            key = {} if self._key is undefined else {"key": self._key}
            document = {"name": self._name, **key, "shard": shard, **fields}
            self._found[shard] = self._ctx.db.insert("rateLimits", document)
        self._changed.clear()

    def forget(self) -> None:
        """Delete the documents of every shard."""
        for shard in self.states():
            found = self._found[shard]
            if found is not None:
                self._ctx.db.delete(found)
        self._found, self._states, self._changed = {}, {}, set()
