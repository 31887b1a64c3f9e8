"""Functions that never end, each in another way, for the runaways benchmark."""

import re

from reactor import mutation


@mutation
async def spin(ctx):
    while True:
        pass


@mutation
async def swallow(ctx):
    while True:
        try:
            while True:
                str(1)
        except BaseException:
            pass


@mutation
async def regex(ctx):
    return bool(re.match(r"(a|aa)+$", "a" * 60 + "b"))


@mutation
async def memory(ctx):
    return len("a" * 10**10)


@mutation
async def recurse(ctx):
    def deeper():
        return deeper() + 1

    return deeper()


@mutation
async def hold(ctx):
    """C code that never looks at signals: nothing in the process can stop it."""
    return sum(range(10**12))
