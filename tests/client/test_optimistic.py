"""Optimistic updates: what readers see while mutations are under way."""

import logging
from typing import Any

import pytest

from reactor.client.optimistic import LocalQuery, LocalStore, OptimisticResults, QueryKey, encode_args
from reactor.client.outcome import Outcome
from reactor.errors import InvalidArgument, ValidationError
from reactor.values.types import Int64, undefined

LIST: QueryKey = ("log:list", b"{}")
OTHER: QueryKey = ("log:list", encode_args({"channel": "b"}))


def known(value: Any) -> Outcome:
    return Outcome(value=encode_args({"": value})[4:-1]) if value is not None else Outcome(value=b"null")


def append(store: LocalStore, args: dict[str, Any]) -> None:
    store.set_query("log:list", {}, [*store.get_query("log:list"), args["item"]])


def shown(results: OptimisticResults, key: QueryKey = LIST) -> Any:
    outcome = results.result(key)
    return undefined if outcome is None else outcome.unwrap()


def test_updates_stack_in_the_order_of_their_mutations_and_replay_on_new_results() -> None:
    results = OptimisticResults()
    results.ingest({LIST: known(["a"])}, ())
    assert results.mutate(append, b'{"item":"x"}', lambda: 1) == (1, [LIST])
    results.mutate(append, b'{"item":"y"}', lambda: 2)
    assert shown(results) == ["a", "x", "y"]

    assert results.ingest({LIST: known(["a", "b"])}, ()) == [LIST]
    assert shown(results) == ["a", "b", "x", "y"]

    assert results.ingest({LIST: known(["a", "b", "x"])}, [1]) == [], "the preview came true: nothing looks different"
    assert results.ingest({}, [2]) == [LIST], "it failed, and is rolled back"
    assert shown(results) == ["a", "b", "x"]


def test_a_result_that_readers_already_see_is_no_difference() -> None:
    results = OptimisticResults()
    assert results.ingest({LIST: known(["a"])}, ()) == [LIST]
    assert results.ingest({LIST: known(["a"])}, ()) == []


def test_a_result_nobody_reads_leaves_nothing_behind() -> None:
    results = OptimisticResults()
    results.ingest({LIST: known(["a"])}, ())
    results.mutate(append, b'{"item":"x"}', lambda: 1)
    results.forget(LIST)
    assert shown(results) is undefined, "a preview of what is not known any more"
    assert results.ingest({LIST: known(["b"])}, ()) == [LIST]
    assert shown(results) == ["b", "x"]


def test_the_store_gives_and_takes_copies() -> None:
    results = OptimisticResults()
    results.ingest({LIST: known([{"n": 1}])}, ())
    given = [{"n": 2}]

    def spoil(store: LocalStore, args: dict[str, Any]) -> None:
        store.get_query("log:list")[0]["n"] = "spoiled"
        args["item"] = "spoiled"
        store.set_query("log:list", {"channel": "b"}, given)

    results.mutate(spoil, b'{"item":1}', lambda: 1)
    given[0]["n"] = 3
    assert shown(results) == [{"n": 1}]
    assert shown(results, OTHER) == [{"n": 2}]


def test_a_query_can_be_shown_as_loading_or_before_it_is_loaded() -> None:
    results = OptimisticResults()
    results.ingest({LIST: known(["a"])}, ())

    def update(store: LocalStore, args: dict[str, Any]) -> None:
        assert store.get_query("log:list", {"channel": "b"}) is undefined
        store.set_query("log:list", None, undefined)
        store.set_query("log:list", {"channel": "b"}, None)

    assert set(results.mutate(update, b"{}", lambda: 1)[1]) == {LIST, OTHER}
    assert shown(results) is undefined
    assert shown(results, OTHER) is None
    assert set(results.ingest({}, [1])) == {LIST, OTHER}
    assert (shown(results), shown(results, OTHER)) == (["a"], undefined)


def test_all_queries_of_a_function_whatever_its_spelling() -> None:
    results = OptimisticResults()
    results.ingest({LIST: known(["a"]), OTHER: Outcome(message="no"), ("log:one", b"{}"): known(1)}, ())
    found: list[list[LocalQuery]] = []

    class Reference:
        __reactor_path__ = "log:list"

    def update(store: LocalStore, args: dict[str, Any]) -> None:
        store.set_query("log:list", {"channel": Int64(1)}, [])
        found.extend((store.get_all_queries("log.js:list"), store.get_all_queries(Reference())))

    results.mutate(update, b"{}", lambda: 1)
    expected = [LocalQuery({}, ["a"]), LocalQuery({"channel": "b"}, undefined), LocalQuery({"channel": Int64(1)}, [])]
    assert found == [expected, expected]


@pytest.mark.parametrize("wrong", ["raises", "waits", "no value"])
def test_an_update_that_fails_sends_nothing_and_changes_nothing(wrong: str) -> None:
    results = OptimisticResults()
    results.ingest({LIST: known(["a"])}, ())
    sent: list[int] = []

    async def wait() -> None: ...

    def update(store: LocalStore, args: dict[str, Any]) -> Any:
        store.set_query("log:list", {}, ["half"])
        if wrong == "waits":
            return wait()
        if wrong == "no value":
            store.set_query("log:list", {}, object())
        raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, InvalidArgument, ValidationError)):
        results.mutate(update, b"{}", lambda: sent.append(1) or 1)  # type: ignore[func-returns-value]
    assert not sent
    assert shown(results) == ["a"]
    results.ingest({LIST: known(["b"])}, ())
    assert shown(results) == ["b"]


def test_an_update_that_fails_on_new_results_is_left_out_whole(caplog: pytest.LogCaptureFixture) -> None:
    results = OptimisticResults()
    results.ingest({LIST: known(["a"])}, ())

    def fragile(store: LocalStore, args: dict[str, Any]) -> None:
        items = store.get_query("log:list")
        store.set_query("log:list", {}, ["half"])
        assert items != ["b"]
        store.set_query("log:list", {}, [*items, "fragile"])

    results.mutate(fragile, b"{}", lambda: 1)
    results.mutate(append, b'{"item":"x"}', lambda: 2)
    with caplog.at_level(logging.ERROR, logger="reactor.client"):
        results.ingest({LIST: known(["b"])}, ())
    assert "optimistic update failed" in caplog.text
    assert shown(results) == ["b", "x"]
    results.ingest({LIST: known(["c"])}, ())
    assert shown(results) == ["c", "fragile", "x"]
