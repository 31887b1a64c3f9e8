"""What is left for the garbage collector, of what a block of a test has made."""

import gc
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def kept_garbage() -> Iterator[Callable[[], list[object]]]:
    """Let no collection come by itself; yield a function that returns what is reactor's in the garbage made so far.

    What was there before the block is left out of it, also what becomes garbage only now: it is another test's.
    A cycle that goes through a suspended generator or coroutine is in none of the collector's counts: it closes that
    first, and the rest then goes by itself. What goes so is returned as a text.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)

    def found() -> list[object]:
        before = _ours()
        gc.collect()
        kept = [thing for thing in gc.garbage if _home(thing).startswith("reactor.")]
        after = _ours()
        return [*kept, *(name for number, name in before.items() if number not in after)]

    try:
        yield found
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


def _ours() -> dict[int, str]:
    """Return what the collector knows of reactor's, by identity, without keeping any of it."""
    return {id(thing): repr(type(thing)) for thing in gc.get_objects() if _home(thing).startswith("reactor.")}


def _home(thing: object) -> str:
    """Return the module that an object is of."""
    if isinstance(thing, types.FrameType):
        return str(thing.f_globals.get("__name__", ""))
    if isinstance(thing, types.FunctionType):
        return thing.__module__ or ""
    return type(thing).__module__
