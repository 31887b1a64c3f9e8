"""Memory of large buffers goes back to the system, also when something small was allocated behind them."""

import os
import subprocess
import sys

import pytest

from reactor.server.allocator import VARIABLE

PROGRAM = """
import ctypes, sys
from pathlib import Path
from reactor.server.allocator import give_back_large_buffers

if sys.argv[1] == "on":
    give_back_large_buffers()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
SIZE = 16 << 20

def buffer():
    memory = libc.malloc(SIZE)
    ctypes.memset(memory, 1, SIZE)
    return memory

libc.free(buffer())  # glibc raises its threshold here
large = buffer()
small = libc.malloc(100_000)  # behind it
libc.free(large)
resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
print(resident.split()[1])
"""


def resident_kib(mode: str) -> int:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-c", PROGRAM, mode]
    return int(subprocess.run(command, check=True, capture_output=True, env=environment, timeout=30).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc")
def test_a_large_buffer_is_given_back_although_a_small_one_lies_behind_it() -> None:
    assert resident_kib("on") + (15 << 10) < resident_kib("off")
