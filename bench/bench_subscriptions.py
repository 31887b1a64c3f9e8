"""Question: how does the cost of one commit grow with the number of live subscriptions?

A commit writes one document of a table with two indexes, so three index keys, and makes one subscription stale. Three
kinds of live query are measured: an equality ("messages of this channel", found by a dict probe), the newest of an
equality ("the last fifty of this channel", an interval below its prefix), and overlapping ranges over one whole index,
where each key lies in ten of them. Registering and leaving are measured on the largest set.

The baseline is one dict probe, taken in the same run; read the ratios. Prints JSON and writes it to bench/results/.
Options: a list of subscription counts, by default 1 100 10000 100000.
"""

import json
import resource
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from random import Random
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Any

from reactor.engine.keyrange import IndexId, KeyRange, prefix
from reactor.engine.readset import ReadSet
from reactor.engine.subscriptions import Subscriptions
from reactor.values.keys import AFTER, encode_key

CASES = [1, 100, 10_000, 100_000]  # subscriptions, each on its own key range
SAMPLES = 400
CALLS_PER_SAMPLE = 25
SEED = 7

BY_ID, BY_CREATION_TIME, BY_CHANNEL, DEPLOYMENT = map(IndexId, range(1, 5))

Commit = tuple[tuple[IndexId, bytes], ...]
Kind = Callable[[int], KeyRange]


def channel(number: int) -> str:
    """An id of the usual length, so that all prefixes have one length, as those of id fields do."""
    return f"j5{number:030d}"


def equality(number: int) -> KeyRange:
    return prefix(encode_key([channel(number)]))


def newest(number: int) -> KeyRange:
    head = encode_key([channel(number)])
    return KeyRange(head + encode_key([1_000.0]), head + AFTER, len(head))


def overlapping(number: int) -> KeyRange:
    """Ten lie over each key, since channels are in the order of their numbers."""
    return KeyRange(encode_key([channel(number)]), encode_key([channel(number + 10)]), 0)


KINDS: dict[str, Kind] = {"equality": equality, "newest": newest, "overlapping": overlapping}


def commit(number: int, at: float) -> Commit:
    """One message inserted into channel `number`."""
    document = f"k9{number:030d}"
    return (
        (BY_ID, encode_key([document])),
        (BY_CREATION_TIME, encode_key([at, document])),
        (BY_CHANNEL, encode_key([channel(number), at, document])),
    )


def reads(key_range: KeyRange) -> ReadSet:
    """What a live query reads: its range, and the row that says which code is deployed."""
    read = ReadSet()
    read.add_point(DEPLOYMENT, b"\x03")
    read.add_range(BY_CHANNEL, key_range)
    return read


def loaded(kind: Kind, count: int) -> Subscriptions[int]:
    subscriptions: Subscriptions[int] = Subscriptions(SEED)
    for number in Random(SEED).sample(range(count), count):
        subscriptions.register(number, reads(kind(number)))
    return subscriptions


def times(call: Callable[[], object], samples: int = SAMPLES, calls: int = CALLS_PER_SAMPLE) -> list[float]:
    """Return nanoseconds per call, one figure per sample, after a warm-up."""
    for _ in range(calls * 4):
        call()
    found = []
    for _ in range(samples):
        begin = perf_counter_ns()
        for _ in range(calls):
            call()
        found.append((perf_counter_ns() - begin) / calls)
    return found


def summary(nanoseconds: list[float], baseline: float) -> dict[str, float]:
    middle = median(nanoseconds)
    return {
        "median_us": round(middle / 1000, 3),
        "p99_us": round(quantiles(nanoseconds, n=100)[98] / 1000, 3),
        "median_over_baseline": round(middle / baseline, 1),
    }


def measure_commits(kind: Kind, count: int, baseline: float) -> dict[str, Any]:
    subscriptions = loaded(kind, count)
    random = Random(SEED)
    commits = cycle([commit(random.randrange(count), 2_000.0 + turn) for turn in range(1_000)])
    stale = subscriptions.stale
    found = sum(len(stale(next(commits))) for _ in range(1_000))
    visited = subscriptions.visited
    result = summary(times(lambda: stale(next(commits))), baseline)
    return {
        "subscriptions": count,
        **result,
        "stale_per_commit": found / 1_000,
        "tree_nodes_per_commit": visited / 1_000,
    }


def measure_registration(kind: Kind, count: int, baseline: float) -> dict[str, Any]:
    """A rerun that reads the same, one that reads another range, and a subscriber that comes and goes."""
    subscriptions = loaded(kind, count)
    numbers = cycle(Random(SEED).sample(range(count), min(count, 1_000)))
    same = {number: reads(kind(number)) for number in range(min(count, 1))}
    moves = cycle([reads(kind(count + turn)) for turn in range(1_000)])

    def again() -> None:
        subscriptions.register(0, same[0])

    def move() -> None:
        subscriptions.register(0, next(moves))

    def come_and_go() -> None:
        number = count + 1 + next(numbers)
        subscriptions.register(number, next(moves))
        subscriptions.unregister(number)

    return {
        "subscriptions": count,
        "same_reads": summary(times(again), baseline),
        "other_range": summary(times(move), baseline),
        "come_and_go": summary(times(come_and_go), baseline),
    }


def dict_probe() -> float:
    """Return the nanoseconds of one probe of a dict with 100,000 keys, call and loop included."""
    table = {encode_key([channel(number)]): number for number in range(100_000)}
    random = Random(SEED)
    keys = cycle([encode_key([channel(random.randrange(100_000))]) for _ in range(1_000)])
    return median(times(lambda: table.get(next(keys))))


def main(counts: list[int]) -> None:
    baseline = dict_probe()
    result = {
        "question": (__doc__ or "").splitlines()[0].removeprefix("Question: "),
        "python": sys.version.split()[0],
        "baseline": {"what": "one dict probe", "median_us": round(baseline / 1000, 3)},
        "commits": {name: [measure_commits(kind, count, baseline) for count in counts] for name, kind in KINDS.items()},
        "registration": {name: measure_registration(kind, counts[-1], baseline) for name, kind in KINDS.items()},
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    text = json.dumps(result, indent=2)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "subscriptions.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or CASES)
