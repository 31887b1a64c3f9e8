"""The functions of a project as a tree of namespaces, as `api`, `internal` and `components` are written.

Used by `python` and `typescript`.
"""

from collections.abc import Callable
from typing import NamedTuple

from reactor.runtime.components.definitions import Instance
from reactor.runtime.registry import RegisteredFunction


class Namespace(NamedTuple):
    """What stands below one attribute. A name may be both a function and a namespace."""

    functions: dict[str, RegisteredFunction]
    below: dict[str, "Namespace"]

    @classmethod
    def empty(cls) -> "Namespace":
        """Return a namespace to fill."""
        return cls({}, {})


Spelling = Callable[[str], str]


def functions_of(instance: Instance, visibility: str, spell: Spelling = str) -> Namespace:
    """Return the functions of one visibility, sorted, without HTTP actions. `spell` is not used on chosen names."""
    root = Namespace.empty()
    for path, registered in sorted(instance.registry.functions.items()):
        if registered.visibility != visibility or registered.kind == "http_action":
            continue
        module, _, name = path.rpartition(":")
        place = root
        for part in module.split("/"):
            place = place.below.setdefault(spell(part), Namespace.empty())
        place.functions[name if registered.function.has_name else spell(name)] = registered
    return root
