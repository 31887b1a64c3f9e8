"""Looks for what no serial order can explain: a cycle of dependencies between committed transactions.

Adya's dependencies (ww: overwrote, wr: read from, rw: read what the other overwrote) between transactions that name the
versions they read and made, and real time: who ended before another began comes first. A cycle is an anomaly, and
every anomaly of serializability is a cycle (Adya 1999, §4; for lists Kingsbury and Alvaro, "Elle", VLDB 2020, §4).
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from tests.serializability.history import Append, Key, ListTransaction, Look, Transaction, Version

Edges = dict[int, dict[int, str]]  # from -> to -> why


def anomalies(history: Sequence[Transaction], *, real_time: bool = True) -> list[str]:
    """Return what is wrong with a history of versioned objects, one line each; nothing when it is serializable."""
    found: list[str] = []
    made: dict[tuple[Key, Version], int] = {}
    for number, transaction in enumerate(history):
        for key, versions in transaction.writes.items():
            for version in versions:
                other = made.setdefault((key, version), number)
                if other != number:
                    found.append(
                        f"lost update: {history[other].name} and {transaction.name} both made {key} version {version}"
                    )
    newest: dict[Key, Version] = defaultdict(int)
    for key, version in made:
        newest[key] = max(newest[key], version)
    edges: Edges = defaultdict(dict)

    def add(source: int | None, target: int | None, why: str) -> None:
        if source is not None and target is not None and source != target:
            edges[source].setdefault(target, why)

    for key, last in newest.items():
        for version in range(1, last):
            add(made.get((key, version)), made.get((key, version + 1)), f"ww {key}@{version + 1}")
    for number, transaction in enumerate(history):
        for key, version in transaction.reads.items():
            if version and (key, version) not in made:
                found.append(f"{transaction.name} read {key} version {version}, which nobody made")
            own = transaction.writes.get(key, ())
            writer = made.get((key, version))
            if writer is not None and writer != number and version != max(history[writer].writes[key]):
                found.append(f"{transaction.name} read {key} version {version}, an intermediate one")
            add(writer, number, f"wr {key}@{version}")
            following = version + 1
            while following in own:
                following += 1
            add(number, made.get((key, following)), f"rw {key}@{following}")
    if real_time:
        _add_real_time(history, edges)
    return found + [_told(cycle, history, edges) for cycle in cycles(edges)]


def list_anomalies(history: Sequence[ListTransaction]) -> list[str]:
    """Return what is wrong with a history of appends to lists and looks at them, one line each."""
    found: list[str] = []
    longest: dict[Key, tuple[int, ...]] = {}
    for transaction in history:
        if transaction.committed:
            for key, values in _outside_looks(transaction):
                if len(values) > len(longest.get(key, ())):
                    longest[key] = values
    position: dict[tuple[Key, int], Version] = {}
    for key, values in longest.items():
        for at, value in enumerate(values, 1):
            if position.setdefault((key, value), at) != at:
                found.append(f"{key} holds {value} twice: an append took effect more than once")
    by: dict[tuple[Key, int], ListTransaction] = {}
    for transaction in history:
        for operation in transaction.operations:
            if isinstance(operation, Append):
                by[operation.key, operation.value] = transaction
    for (key, value), transaction in by.items():
        if transaction.committed and (key, value) not in position and key in longest:
            found.append(f"{transaction.name} appended {value} to {key}, and it is not there at the end")
        if transaction.committed is False and (key, value) in position:
            found.append(f"aborted read: {value} of {key} is seen, though {transaction.name} failed")
    for key, value in position:
        if (key, value) not in by:
            found.append(f"{key} holds {value}, which nobody appended")
    versioned: list[Transaction] = []
    for transaction in history:
        took_effect = transaction.committed or (
            transaction.committed is None
            and any(isinstance(one, Append) and (one.key, one.value) in position for one in transaction.operations)
        )
        if not took_effect:
            continue
        reads: dict[Key, Version] = {}
        writes: dict[Key, list[Version]] = defaultdict(list)
        own: dict[Key, list[int]] = defaultdict(list)
        for operation in transaction.operations:
            if isinstance(operation, Append):
                own[operation.key].append(operation.value)
                if (operation.key, operation.value) in position:
                    writes[operation.key].append(position[operation.key, operation.value])
            elif transaction.committed:
                mine = own[operation.key]
                seen = operation.values[: len(operation.values) - len(mine)]
                if tuple(mine) != operation.values[len(seen) :]:
                    found.append(f"{transaction.name} does not see its own appends to {operation.key}")
                    continue
                if longest.get(operation.key, ())[: len(seen)] != seen:
                    found.append(f"{transaction.name} saw {operation.key} in another order than others did")
                    continue
                if reads.setdefault(operation.key, len(seen)) != len(seen):
                    found.append(f"{transaction.name} saw {operation.key} change between two looks")
        end = transaction.end if transaction.committed else float("inf")
        versioned.append(Transaction(transaction.name, transaction.begin, end, reads, writes))
    return found + anomalies(versioned)


def _outside_looks(transaction: ListTransaction) -> Iterable[tuple[Key, tuple[int, ...]]]:
    """The parts of what it saw that others had appended, and, at its end, its own."""
    for operation in transaction.operations:
        if isinstance(operation, Look):
            yield operation.key, operation.values


def _add_real_time(history: Sequence[Transaction], edges: Edges) -> None:
    """Who ended before another began comes first; through a chain of moments, so that edges stay few."""
    base = len(history)
    ends = sorted(range(base), key=lambda number: history[number].end)
    for place, number in enumerate(ends):
        edges[number].setdefault(base + place, "time")
        if place:
            edges[base + place - 1].setdefault(base + place, "time")
    place = -1
    for number in sorted(range(base), key=lambda number: history[number].begin):
        while place + 1 < base and history[ends[place + 1]].end < history[number].begin:
            place += 1
        if place >= 0:
            edges[base + place].setdefault(number, "time")


def cycles(edges: Edges) -> list[list[int]]:
    """Return a shortest cycle of each strongly connected part of a graph (Tarjan 1972, without recursion)."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in list(edges):
        if root in order:
            continue
        work = [(root, iter(edges.get(root, ())))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in order:
                    order[target] = low[target] = len(order)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(edges.get(target, ()))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], order[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    part: set[int] = set()
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        part.add(member)
                        if member == node:
                            break
                    if len(part) > 1:
                        found.append(_shortest(part, edges))
    return found


def _shortest(part: set[int], edges: Edges) -> list[int]:
    """Return a shortest cycle through some member of a strongly connected part."""
    best: list[int] = []
    for start in sorted(part)[:50]:
        came: dict[int, int] = {}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            if start in edges.get(node, ()):
                cycle = [node]
                while cycle[-1] != start:
                    cycle.append(came[cycle[-1]])
                cycle.reverse()
                if not best or len(cycle) < len(best):
                    best = cycle
                break
            for target in edges.get(node, ()):
                if target in part and target not in came and target != start:
                    came[target] = node
                    queue.append(target)
    return best


def _told(cycle: list[int], history: Sequence[Transaction], edges: Edges) -> str:
    """Name a cycle by its kinds of edges, and say how it goes round."""
    steps = [edges[source][target] for source, target in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
    kinds = {step[:2] for step in steps} - {"ti"}
    behind = sum(step.startswith("rw") for step in steps)
    name = (
        "stale read" if "time" in steps and behind
        else "write cycle (G0)" if kinds == {"ww"}
        else "circular information flow (G1c)" if not behind
        else "read skew (G-single)" if behind == 1
        else "write skew or long fork (G2)"
    )  # fmt: skip
    names = [history[member].name if member < len(history) else "·" for member in cycle]
    return f"{name}: " + " ".join(f"{who} -[{step}]->" for who, step in zip(names, steps, strict=True)) + f" {names[0]}"
