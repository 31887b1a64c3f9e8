"""A line: so many at a time, the others one after the other behind them.

Pure order, without time or threads. Used for the actions of a deployment, and for the calls of one action.
"""

from collections import deque
from collections.abc import Callable

Start = Callable[[], None]


class Line:
    """Starts up to `places` things at a time, first come, first served."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.running = 0
        self._waiting: deque[Start] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, start: Start) -> None:
        """Call `start` now, or when it is its turn. Each start is followed by one `leave`."""
        if self.running < self.places:
            self.running += 1
            start()
        else:
            self._waiting.append(start)

    def withdraw(self, start: Start) -> bool:
        """Wait no longer; return whether `start` was still waiting, and will not be called."""
        try:
            self._waiting.remove(start)
        except ValueError:
            return False
        return True

    def leave(self) -> None:
        """Give the place to who has waited longest."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self.running -= 1
