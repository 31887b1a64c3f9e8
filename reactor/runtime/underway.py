"""What is under way: counted, for who waits until none of it is.

Belongs to one event loop. Used by services, which end only when nothing of theirs goes on.
"""

import asyncio


class Underway:
    """Things that have begun and not ended."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        """Count one more. Each is followed by one `end`."""
        self._count += 1
        self._none.clear()

    def end(self) -> None:
        """Count one less."""
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self) -> None:
        """Wait until nothing is under way."""
        while self._count:  # others may have begun before this goes on
            await self._none.wait()
