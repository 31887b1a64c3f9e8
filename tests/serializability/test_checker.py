"""The checker finds each known anomaly, and nothing in histories that a serial order explains."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serializability.checker import anomalies, list_anomalies
from tests.serializability.history import Append, ListTransaction, Look, Transaction

Operation = Append | Look


def at_once(*transactions: tuple[Operation, ...], failed: frozenset[int] = frozenset()) -> list[ListTransaction]:
    """Transactions that all overlap in time."""
    return [
        ListTransaction(f"T{number}", 0, 1, operations, committed=number not in failed)
        for number, operations in enumerate(transactions, 1)
    ]


def look(key: str, *values: int) -> Look:
    return Look(key, values)


ANOMALIES = {
    "dirty write": (
        at_once(
            (Append("x", 1), Append("y", 1)),
            (Append("x", 2), Append("y", 2)),
            (look("x", 1, 2),),
            (look("y", 2, 1),),
        ),
        "write cycle (G0)",
    ),
    "aborted read": (at_once((Append("x", 1),), (look("x", 1),), failed=frozenset({1})), "aborted read"),
    "intermediate read": (
        at_once((Append("x", 1), Append("x", 2)), (look("x", 1),), (look("x", 1, 2),)),
        "intermediate",
    ),
    "circular information flow": (
        at_once((Append("x", 1), look("y", 1)), (Append("y", 1), look("x", 1))),
        "circular information flow (G1c)",
    ),
    "lost update": (
        at_once((look("x"), Append("x", 1)), (look("x"), Append("x", 2)), (look("x", 1, 2),)),
        "G-single",
    ),
    "overwritten append": (
        at_once((look("x"), Append("x", 1)), (look("x"), Append("x", 2)), (look("x", 2),)),
        "not there at the end",
    ),
    "read skew": (
        at_once((Append("x", 1), Append("y", 1)), (look("x"), look("y", 1)), (look("x", 1), look("y", 1))),
        "G-single",
    ),
    "write skew": (
        at_once(
            (look("x"), Append("y", 1)),
            (look("y"), Append("x", 1)),
            (look("x", 1), look("y", 1)),
        ),
        "G2",
    ),
    # Each of the two looks at everybody on duty, finds another one, and takes itself off: rows come and go in a range.
    "phantom": (
        at_once(
            (look("on duty"), look("off duty"), Append("on duty", 1)),
            (look("on duty"), look("off duty"), Append("off duty", 1)),
            (look("on duty", 1), look("off duty", 1)),
        ),
        "G2",
    ),
    "long fork": (
        at_once(
            (Append("x", 1),),
            (Append("y", 1),),
            (look("x", 1), look("y")),
            (look("x"), look("y", 1)),
            (look("x", 1), look("y", 1)),
        ),
        "G2",
    ),
    "fractured look": (at_once((Append("x", 1),), (look("x"), look("x", 1))), "between two looks"),
    "own write unseen": (at_once((Append("x", 1), look("x")), (look("x", 1),)), "own appends"),
    "twice": (at_once((Append("x", 1),), (look("x", 1, 1),)), "more than once"),
    "stale read": (
        [
            ListTransaction("writer", 0, 1, (Append("x", 1),)),
            ListTransaction("reader", 2, 3, (look("x"),)),
            ListTransaction("last", 4, 5, (look("x", 1),)),
        ],
        "stale read",
    ),
}


@pytest.mark.parametrize("name", ANOMALIES)
def test_each_anomaly_is_found(name: str) -> None:
    history, told = ANOMALIES[name]

    found = list_anomalies(history)

    assert any(told in line for line in found), found


def test_two_makers_of_one_version_are_a_lost_update() -> None:
    history = [
        Transaction("T1", 0, 1, {"account": 0}, {"account": [1]}),
        Transaction("T2", 0, 1, {"account": 0}, {"account": [1]}),
    ]

    assert any("lost update" in line for line in anomalies(history))


def test_what_nobody_learnt_may_have_happened_or_not() -> None:
    lost = ListTransaction("lost", 0, 1, (Append("x", 1),), committed=None)

    assert list_anomalies([lost, ListTransaction("reader", 2, 3, (look("x", 1),))]) == []
    assert list_anomalies([lost, ListTransaction("reader", 2, 3, (look("x"),))]) == []


def test_an_answer_may_be_slow_but_not_early() -> None:
    """Without overlap the order is that of time; with it either order will do."""
    early = Transaction("reader", 0, 3, {"x": 0})
    writer = Transaction("writer", 1, 2, {}, {"x": [1]})

    assert anomalies([early, writer]) == []
    assert anomalies([Transaction("reader", 3, 4, {"x": 0}), writer]) != []
    assert anomalies([Transaction("reader", 3, 4, {"x": 0}), writer], real_time=False) == []


@given(st.integers(0, 2**32))
def test_what_ran_serially_is_serializable(seed: int) -> None:
    """Random transactions run one after the other, told in any order, some overlapping in time."""
    chance = random.Random(seed)
    lists: dict[str, list[int]] = {key: [] for key in "abc"}
    history: list[ListTransaction] = []
    for number in range(chance.randrange(1, 30)):
        operations: list[Operation] = []
        for step in range(chance.randrange(1, 4)):
            key = chance.choice("abc")
            if chance.random() < 0.5:
                lists[key].append(number * 10 + step)
                operations.append(Append(key, number * 10 + step))
            else:
                operations.append(Look(key, tuple(lists[key])))
        begin, end = number - 3 * chance.random(), number + 3 * chance.random()
        history.append(ListTransaction(f"T{number}", begin, end, tuple(operations)))
    history.append(ListTransaction("last", 99, 100, tuple(Look(key, tuple(lists[key])) for key in "abc")))
    chance.shuffle(history)

    assert list_anomalies(history) == []
