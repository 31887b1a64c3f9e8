"""The C allocator: how a process that serves gives memory back.

Owns the one setting that matters here. glibc raises, after the first large buffer that is freed, the size from which a
buffer gets pages of its own, up to 32 MiB. From then on large request bodies lie in the common heap, where a small
object behind one keeps all of it resident: tens of megabytes for as long as the object lives. With a fixed size every
large buffer goes back to the system when it is freed. Used by `server/run`.
"""

import ctypes
import os
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # mallopt(3)
OWN_PAGES_BYTES: Final = 1 << 20  # large enough that the system calls are nothing beside filling the buffer
VARIABLE: Final = "MALLOC_MMAP_THRESHOLD_"  # glibc's own; who sets it knows better


def give_back_large_buffers() -> None:
    """Let buffers of a mebibyte and more go back to the system when they are freed; a no-op without glibc."""
    if os.name != "posix" or VARIABLE in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
        mallopt(_M_MMAP_THRESHOLD, OWN_PAGES_BYTES)
